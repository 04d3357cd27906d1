//! The fencing token, and the rules by which an agent accepts one and updates its fence state.
//!
//! What must stay true of a fence state: its token only rises. It is durable before anything is done or answered under
//! it. One token never stands for two assignments. The agent decides where it is stored.

use core::fmt;

use lockstep_mutant::{Mutant, is_on};
use serde::{Deserialize, Serialize};

use crate::id::{ClusterId, Digest};

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
pub enum TokenOrder {
    /// Newer than anything seen: raise the fence, durably, before anything else.
    Newer,
    /// The newest message again: answer what was answered.
    Repeat,
}

/// Why a message is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    #[error(
        "the token {offered} is older than {seen}: another driver has taken over, or the record was restored from a \
         backup; after a restore: lockstep fence bump ENV"
    )]
    Stale { offered: Token, seen: Token },
    #[error("the message is from cluster {offered}, but the environment belongs to cluster {pinned}")]
    ForeignCluster { offered: ClusterId, pinned: ClusterId },
}

/// Compares `offered` with the highest token seen for this environment.
///
/// # Errors
/// A token of another cluster, or one that is lower.
pub fn compare_token(seen: Option<&Token>, offered: &Token) -> Result<TokenOrder, TokenRefusal> {
    let Some(seen) = seen else {
        return Ok(TokenOrder::Newer);
    };
    if seen.cluster != offered.cluster {
        return Err(TokenRefusal::ForeignCluster {
            offered: offered.cluster.clone(),
            pinned: seen.cluster.clone(),
        });
    }
    if is_on(Mutant::FenceSkipped) {
        return Ok(TokenOrder::Newer);
    }
    if is_on(Mutant::OrderAndTombstoneSkipped) && offered.epoch >= seen.epoch {
        return Ok(TokenOrder::Newer);
    }
    match (offered.epoch, offered.seq).cmp(&(seen.epoch, seen.seq)) {
        core::cmp::Ordering::Greater => Ok(TokenOrder::Newer),
        core::cmp::Ordering::Equal => Ok(TokenOrder::Repeat),
        core::cmp::Ordering::Less => {
            Err(TokenRefusal::Stale { offered: offered.clone(), seen: seen.clone() })
        }
    }
}

/// The newest token of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceState {
    pub token: Token,
    /// The digest of the assignment that came with it; `None` if a question raised the token.
    pub assignment_digest: Option<Digest>,
}

/// Why the fence refuses a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FenceError {
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    #[error("the token {token} was already used for another assignment")]
    DifferentContent { token: Token },
}

/// Compares `offered` with the current fence state. Gives the state that must be committed before `offered` is
/// acted on; `None` if it is committed already.
///
/// # Errors
/// A token that is older or of another cluster, or one that came before with other content.
pub fn advance_fence(
    seen: Option<&FenceState>,
    offered: &FenceState,
) -> Result<Option<FenceState>, FenceError> {
    let admission = compare_token(seen.map(|mark| &mark.token), &offered.token)?;
    let said = seen.and_then(|mark| mark.assignment_digest.as_ref());
    match (admission, said, &offered.assignment_digest) {
        (TokenOrder::Newer, _, _) | (TokenOrder::Repeat, None, Some(_)) => Ok(Some(offered.clone())),
        (TokenOrder::Repeat, Some(before), Some(here)) if before != here => {
            Err(FenceError::DifferentContent { token: offered.token.clone() })
        }
        // A question repeats nothing but the token.
        (TokenOrder::Repeat, _, _) => Ok(None),
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
        assert_eq!(compare_token(None, &seen), Ok(TokenOrder::Newer));
        assert_eq!(compare_token(Some(&seen), &token(OURS, 4, 8)), Ok(TokenOrder::Newer));
        assert_eq!(compare_token(Some(&seen), &token(OURS, 5, 1)), Ok(TokenOrder::Newer));
        assert_eq!(compare_token(Some(&seen), &token(OURS, 4, 7)), Ok(TokenOrder::Repeat));
        assert!(matches!(compare_token(Some(&seen), &token(OURS, 4, 6)), Err(TokenRefusal::Stale { .. })));
        assert!(matches!(compare_token(Some(&seen), &token(OURS, 3, 99)), Err(TokenRefusal::Stale { .. })));
        assert!(matches!(
            compare_token(Some(&seen), &token(OTHER, 9, 1)),
            Err(TokenRefusal::ForeignCluster { .. })
        ));
    }

    fn mark(epoch: u64, seq: u64, said: Option<&str>) -> FenceState {
        let cluster = "cl_01JBQR2KXYZ987654321012345".parse().expect("a cluster's id");
        FenceState {
            token: Token { cluster, epoch, seq },
            assignment_digest: said.map(|text| Digest::of_content(text.as_bytes())),
        }
    }

    #[test]
    fn a_mark_rises_and_an_equal_one_stays() {
        let first = mark(1, 4, Some("a"));
        assert_eq!(advance_fence(None, &first), Ok(Some(first.clone())));
        assert_eq!(advance_fence(Some(&first), &first), Ok(None));
        let next = mark(2, 1, Some("b"));
        assert_eq!(advance_fence(Some(&first), &next), Ok(Some(next.clone())));
        assert!(matches!(advance_fence(Some(&next), &first), Err(FenceError::Token(_))));
    }

    #[test]
    fn one_token_never_stands_for_two_assignments() {
        let first = mark(1, 4, Some("a"));
        let other = mark(1, 4, Some("b"));
        assert!(matches!(advance_fence(Some(&first), &other), Err(FenceError::DifferentContent { .. })));
    }

    #[test]
    fn a_question_may_share_its_token_with_an_assignment_and_does_not_forget_it() {
        let (question, first) = (mark(1, 4, None), mark(1, 4, Some("a")));
        assert_eq!(advance_fence(Some(&first), &question), Ok(None));
        assert_eq!(advance_fence(Some(&question), &first), Ok(Some(first)));
    }
}
