//! The cluster that environments run on: its hosts and coordinators, and who is admitted to it.

pub mod authority;
pub mod backups;
pub mod coordinators;
pub mod hosts;
pub mod machine_tokens;
pub mod operators;
pub mod registries;
