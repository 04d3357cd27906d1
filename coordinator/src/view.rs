//! What screens and JSON show of an environment.

pub mod drift;
pub mod status;
