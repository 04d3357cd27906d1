//! The rules of an agent: which messages it accepts, what it does with an assigned step, and which host tasks there
//! are.

pub mod accept;
pub mod fence;
pub mod host_task;
