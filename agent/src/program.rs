//! The program: its directory, settings and identity; how it joins a cluster and renews its certificate.

pub mod directory;
pub mod enroll;
pub mod identity;
pub mod settings;
pub mod telemetry;
