//! Traits for what the coordinator needs from outside: agents, clock, secrets, metrics and private files.
//!
//! This is the lowest level: it imports nothing of the coordinator except the trait of the store.

pub mod agents;
pub mod clock;
pub mod metrics;
pub mod private_files;
pub mod secrets;
