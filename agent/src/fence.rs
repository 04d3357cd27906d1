//! The durable high-water mark of one environment: which token was the newest, and what it said.
//!
//! What must stay true: a mark only rises, it is committed before anything is done or answered under
//! it, and one token never stands for two assignments. The rule for tokens is
//! [`lockstep_core::fence::admit`], which the model shares; the mark is kept by the
//! [journal](crate::journal), in the same file and the same transaction as what it lets pass.

use lockstep_core::fence::{self, Admission, Token};
use lockstep_core::id::Digest;

/// The newest token of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub token: Token,
    /// The digest of the assignment that came with it; nothing when a question raised the mark.
    pub said: Option<Digest>,
}

/// Why a message does not pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Token(#[from] fence::Refusal),
    #[error("the token {token} came before, with another assignment")]
    OtherContent { token: Token },
}

/// Compares `offered` with the mark so far, and says the mark that must be committed before `offered` is
/// acted on; `None` when it stands already.
///
/// # Errors
/// A token that is older or of another cluster, or one that came before with other content.
pub fn raise(seen: Option<&Mark>, offered: &Mark) -> Result<Option<Mark>, Refusal> {
    let admission = fence::admit(seen.map(|mark| &mark.token), &offered.token)?;
    let said = seen.and_then(|mark| mark.said.as_ref());
    match (admission, said, &offered.said) {
        (Admission::Raise, _, _) | (Admission::Repeat, None, Some(_)) => Ok(Some(offered.clone())),
        (Admission::Repeat, Some(before), Some(here)) if before != here => {
            Err(Refusal::OtherContent { token: offered.token.clone() })
        }
        // A question repeats nothing but the token.
        (Admission::Repeat, _, _) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(epoch: u64, seq: u64, said: Option<&str>) -> Mark {
        let cluster = "cl_01JBQR2KXYZ987654321012345".parse().unwrap();
        Mark { token: Token { cluster, epoch, seq }, said: said.map(|text| Digest::of(text.as_bytes())) }
    }

    #[test]
    fn a_mark_rises_and_an_equal_one_stays() {
        let first = mark(1, 4, Some("a"));
        assert_eq!(raise(None, &first), Ok(Some(first.clone())));
        assert_eq!(raise(Some(&first), &first), Ok(None));
        let next = mark(2, 1, Some("b"));
        assert_eq!(raise(Some(&first), &next), Ok(Some(next.clone())));
        assert!(matches!(raise(Some(&next), &first), Err(Refusal::Token(_))));
    }

    #[test]
    fn one_token_never_stands_for_two_assignments() {
        let first = mark(1, 4, Some("a"));
        let other = mark(1, 4, Some("b"));
        assert!(matches!(raise(Some(&first), &other), Err(Refusal::OtherContent { .. })));
    }

    #[test]
    fn a_question_may_share_its_token_with_an_assignment_and_does_not_forget_it() {
        let (question, first) = (mark(1, 4, None), mark(1, 4, Some("a")));
        assert_eq!(raise(Some(&first), &question), Ok(None));
        assert_eq!(raise(Some(&question), &first), Ok(Some(first)));
    }
}
