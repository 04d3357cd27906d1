//! The fencing token, and the rule by which an agent admits one.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::id::ClusterId;

/// Who speaks, and in which order: epochs order drivers, `seq` orders the messages of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    pub cluster: ClusterId,
    pub epoch: u64,
    pub seq: u64,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}

/// What an agent does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Newer than anything seen: raise the fence, durably, before anything else.
    Raise,
    /// The newest message again: answer what was answered.
    Repeat,
}

/// Why a message is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "the token {offered} is older than {seen}: its sender has been deposed, or its record was put back from a \
         backup, and then: lockstep fence bump ENV"
    )]
    Stale { offered: Token, seen: Token },
    #[error("cluster {offered} speaks for an environment of cluster {pinned}")]
    ForeignCluster { offered: ClusterId, pinned: ClusterId },
}

/// Compares `offered` with the highest token seen for this environment.
///
/// # Errors
/// A token of another cluster, or one that is lower.
pub fn admit(seen: Option<&Token>, offered: &Token) -> Result<Admission, Refusal> {
    let Some(seen) = seen else {
        return Ok(Admission::Raise);
    };
    if seen.cluster != offered.cluster {
        return Err(Refusal::ForeignCluster {
            offered: offered.cluster.clone(),
            pinned: seen.cluster.clone(),
        });
    }
    match (offered.epoch, offered.seq).cmp(&(seen.epoch, seen.seq)) {
        core::cmp::Ordering::Greater => Ok(Admission::Raise),
        core::cmp::Ordering::Equal => Ok(Admission::Repeat),
        core::cmp::Ordering::Less => Err(Refusal::Stale { offered: offered.clone(), seen: seen.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(cluster: &str, epoch: u64, seq: u64) -> Token {
        Token { cluster: cluster.parse().expect("a cluster's id"), epoch, seq }
    }

    #[test]
    fn an_older_driver_or_an_older_message_is_refused() {
        const OURS: &str = "cl_01JBQR2KXYZ987654321012345";
        const OTHER: &str = "cl_01JBQR2KXYZ987654321012346";
        let seen = token(OURS, 4, 7);
        assert_eq!(admit(None, &seen), Ok(Admission::Raise));
        assert_eq!(admit(Some(&seen), &token(OURS, 4, 8)), Ok(Admission::Raise));
        assert_eq!(admit(Some(&seen), &token(OURS, 5, 1)), Ok(Admission::Raise));
        assert_eq!(admit(Some(&seen), &token(OURS, 4, 7)), Ok(Admission::Repeat));
        assert!(matches!(admit(Some(&seen), &token(OURS, 4, 6)), Err(Refusal::Stale { .. })));
        assert!(matches!(admit(Some(&seen), &token(OURS, 3, 99)), Err(Refusal::Stale { .. })));
        assert!(matches!(admit(Some(&seen), &token(OTHER, 9, 1)), Err(Refusal::ForeignCluster { .. })));
    }
}
