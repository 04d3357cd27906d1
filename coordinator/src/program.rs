//! The program: settings, start and service, joining a cluster, backup and restore, another key for the secrets.

pub mod backup;
pub mod directory;
pub mod joining;
pub mod rekey;
pub mod restore;
pub mod server;
pub mod service;
pub mod settings;
