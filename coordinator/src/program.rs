//! The program: its settings, how it starts and serves, how it joins a cluster, backup and restore.

pub mod backup;
pub mod directory;
pub mod joining;
pub mod restore;
pub mod server;
pub mod service;
pub mod settings;
