//! Every story under `tests/stories` is played; its answers must be the ones that it tells.
//! `UPDATE=1` rewrites them: commit that only when you know why they changed, and want it.

use std::path::Path;

fn story(path: &Path) -> datatest_stable::Result<()> {
    let told = std::fs::read_to_string(path)?;
    let played = lockstep_tests::story::play(&told)?;
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &played)?;
        return Ok(());
    }
    if played == told {
        return Ok(());
    }
    let first = told.lines().zip(played.lines()).position(|(was, is)| was != is).unwrap_or(0);
    let is = played.lines().skip(first).take(8).collect::<Vec<_>>().join("\n");
    Err(format!("the story differs from line {} on; it is:\n{is}", first + 1).into())
}

datatest_stable::harness! {
    { test = story, root = "stories", pattern = r"\.story$" },
}
