//! The question before a change that cannot be undone.

use crate::context::{Context, read_line};
use crate::failure::{Failure, Kind, Result};

/// Asks whether to continue.
///
/// # Errors
/// When the answer is not `yes`.
pub(super) fn confirm(context: &Context) -> Result<()> {
    context.output.ask("continue? Type yes:");
    match read_line()?.as_str() {
        "yes" => Ok(()),
        _ => Err(Failure::new(Kind::Refused, "nothing was changed").why("the answer was not yes")),
    }
}
