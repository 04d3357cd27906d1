//! What screens and JSON output show of an environment.

pub mod drift;
pub mod status;
