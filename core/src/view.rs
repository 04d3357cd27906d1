//! What screens and exported files show. It is composed from the record; no planner and no engine reads it.

pub mod authority_status;
pub mod coordinator;
pub mod environment;
pub mod host_status;
pub mod printable;
pub mod state_file;
