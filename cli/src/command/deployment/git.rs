//! What git says of the checkout that a command runs in.

use std::process::Command;

use crate::context::Context;

/// What git says of the current directory; `None` if there is no git or no checkout.
pub(super) fn git(context: &Context, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).current_dir(context.directory()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
