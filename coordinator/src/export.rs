//! Files for other programs and people: the log of a deployment and the state file.

pub mod deployment_log;
pub mod state_file;
