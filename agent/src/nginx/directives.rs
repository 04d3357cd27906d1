//! Reads which directives nginx's configuration has.

/// The name of every directive, and in how many blocks it stands.
pub(super) fn directives(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let mut depth = 0_usize;
    let mut is_name = true;
    lines.flat_map(tokens).filter_map(move |token| {
        let found = (is_name && !matches!(token, ";" | "{" | "}")).then_some((depth, token));
        is_name = matches!(token, ";" | "{" | "}");
        match token {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        found
    })
}

/// Words, and each of `;`, `{` and `}` by itself.
fn tokens(line: &str) -> impl Iterator<Item = &str> {
    let is_mark = |letter: char| matches!(letter, ';' | '{' | '}');
    line.split_whitespace()
        .flat_map(move |word| {
            word.split_inclusive(is_mark).flat_map(move |part| {
                let (name, mark) = part.split_at(part.trim_end_matches(is_mark).len());
                [name, mark]
            })
        })
        .filter(|token| !token.is_empty())
}
