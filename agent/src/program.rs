//! The program: its directory and settings, who it is, how it joins a cluster and keeps its certificate valid.

pub mod directory;
pub mod enroll;
pub mod identity;
pub mod settings;
pub mod telemetry;
