//! A pseudo-terminal of a given size for one command, by util-linux's `script`.

use std::process::Command;

/// How large a terminal is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub columns: u16,
    pub rows: u16,
}

/// `command` on a terminal of its own: what it draws comes from standard output, both streams in one.
/// Directory and environment are those of `command`; `NO_COLOR` is not inherited.
pub fn on_terminal(command: &Command, size: Size) -> Command {
    let mut words = vec![format!("stty cols {} rows {}; exec", size.columns, size.rows)];
    let program = [command.get_program()].into_iter().chain(command.get_args());
    words.extend(program.map(|word| format!("'{}'", word.to_string_lossy())));
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
    terminal.env("TERM", "xterm-256color").env_remove("NO_COLOR");
    if let Some(directory) = command.get_current_dir() {
        terminal.current_dir(directory);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => terminal.env(name, value),
            None => terminal.env_remove(name),
        };
    }
    terminal
}
