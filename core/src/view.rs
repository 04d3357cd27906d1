//! What screens and exported files show: composed from the record, and read by no planner and no engine.

pub mod authority_status;
pub mod coordinator;
pub mod environment;
pub mod host_status;
pub mod state_file;
