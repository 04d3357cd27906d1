//! The invariants of the design by name, and a breach of one.

pub const ONE_HAND: &str = "1 one hand";
pub const TRAFFIC: &str = "2 traffic is safe";
pub const ONCE: &str = "3 once";
pub const ENDS: &str = "4 it ends";
pub const NOTHING_LOST: &str = "5 nothing is lost";
pub const REALITY: &str = "6 the record is the reality";
pub const OWN: &str = "9 what is owned stays so";

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub invariant: &'static str,
    pub what: String,
}

/// A breach that a check has found, before it ends the run.
#[derive(Debug)]
pub struct Broken(pub &'static str, pub String);
