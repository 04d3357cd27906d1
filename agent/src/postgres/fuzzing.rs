//! `pg_hba.conf` as text and as rules, for its fuzz target in `tests/fuzz`. Only a build with `cfg(fuzzing)` has this module.

use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::hba::{DatabaseRole, HbaLine};

use super::hba_file::{self, Rule};

/// The columns of a rule in the server's table.
#[derive(Debug, Clone)]
pub struct RuleColumns {
    pub kind: String,
    pub databases: Vec<String>,
    pub users: Vec<String>,
    pub address: Option<String>,
    pub netmask: Option<String>,
    pub method: String,
}

/// The environment's lines in `text`.
///
/// # Errors
/// When the block of the environment has something else.
pub fn lines(text: &str, key: &EnvironmentKey) -> Result<Vec<HbaLine>, String> {
    hba_file::lines(text, key).map_err(|error| error.to_string())
}

/// `text` with exactly these lines of the environment.
///
/// # Errors
/// When a line cannot be written, or the block of the environment has no end.
pub fn with_lines(text: &str, key: &EnvironmentKey, lines: &[HbaLine]) -> Result<String, String> {
    hba_file::with_lines(text, key, lines).map_err(|error| error.to_string())
}

/// Whether the rule that decides lets the role in from `address`; `None` if no rule decides.
pub fn admits(rules: &[RuleColumns], role: &DatabaseRole, address: &str) -> Option<bool> {
    let rules: Vec<Rule> = rules.iter().cloned().map(rule).collect();
    hba_file::deciding(&rules, role, address).map(Rule::allows)
}

fn rule(columns: RuleColumns) -> Rule {
    let RuleColumns { kind, databases, users, address, netmask, method } = columns;
    Rule { place: String::new(), kind, databases, users, address, netmask, method }
}
