//! A running deployment: what has happened, and what comes next.

pub mod driver_phase;
pub mod engine;
pub mod journal;
pub mod limits;
pub mod redacted;
