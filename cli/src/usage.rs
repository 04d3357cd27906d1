//! Arguments that cannot be parsed, as a failure like any other: for whoever reads `--output json`.

use std::ffi::OsString;

use crate::failure::{Failure, Kind};

/// Whether `--output json` is among arguments that cannot be parsed.
pub fn asks_for_json(arguments: impl Iterator<Item = OsString>) -> bool {
    let words: Vec<String> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    words.iter().any(|word| word == "--output=json")
        || words.windows(2).any(|pair| pair[0] == "--output" && pair[1] == "json")
}

/// What clap says of arguments that it does not take: its message, and how the command is used.
pub fn usage_failure(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let what = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let rest: Vec<&str> = lines.take_while(|line| !line.starts_with("For more information")).collect();
    let (usage, why): (Vec<&str>, Vec<&str>) = rest.iter().partition(|line| line.starts_with("Usage: "));
    let failure = Failure::new(Kind::Usage, what);
    let failure = if why.is_empty() { failure } else { failure.why(why.join("\n")) };
    match usage.first() {
        Some(usage) => failure.next(usage.trim_start_matches("Usage: ")),
        None => failure.next(format!("{} --help", env!("CARGO_PKG_NAME"))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Arguments;

    #[test]
    fn arguments_that_are_wrong_fail_with_how_the_command_is_used() {
        let error = Arguments::try_parse_from(["lockstep", "deploy"]).unwrap_err();
        let failure = usage_failure(&error);
        assert_eq!(failure.kind, Kind::Usage);
        assert!(failure.what.contains("required arguments"), "{failure:?}");
        assert!(failure.why.unwrap().contains("<ENV>"));
        assert!(failure.next.unwrap().starts_with("lockstep deploy"));
    }

    #[test]
    fn json_is_asked_for_in_both_forms() {
        let asks = |words: &[&str]| asks_for_json(words.iter().map(OsString::from));
        assert!(asks(&["lockstep", "--output", "json", "deploy"]));
        assert!(asks(&["lockstep", "deploy", "--output=json"]));
        assert!(!asks(&["lockstep", "--output", "human", "deploy", "json"]));
    }
}
