//! The messages of a coordinator, for their fuzz target in `tests/fuzz`. Only a build with `cfg(fuzzing)` has this module.

use lockstep_proto::wire;

use super::message::{self, UnreadableMessage};

/// A message as the agent understands it: what a log line would show of it.
///
/// # Errors
/// Why it cannot be read, and what the agent answers.
pub fn read(message: wire::ToAgent) -> Result<String, (String, Option<wire::FromAgent>)> {
    match message::read(message) {
        Ok(order) => Ok(format!("{order:?}")),
        Err(UnreadableMessage { invalid, answer }) => {
            Err((invalid.to_string(), answer.map(|answer| *answer)))
        }
    }
}
