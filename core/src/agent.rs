//! The rules of an agent: which message it obeys, what it does with a step that it is handed, what else it may be asked.

pub mod accept;
pub mod fence;
pub mod host_task;
