//! Converts wire messages to the model with `TryFrom`, because they can be invalid, and the model to the wire with
//! `From`.

use lockstep_core::agent::fence::Token;
use lockstep_core::id::StepId;
use lockstep_core::run::journal::{Direction, Finding, StepFailure, StepKey};
use lockstep_core::stored::{self, StoredDocument};

use crate::invalid::Invalid;
use crate::wire;

/// What became of a step, in the model's words.
pub type Outcome = Result<Finding, StepFailure>;

impl wire::Document {
    /// The document of `content`.
    pub fn of_content<T: StoredDocument>(content: &T) -> Self {
        Self { json: stored::encode(content) }
    }

    /// Reads the content of field `field`.
    ///
    /// # Errors
    /// When it is of another kind or version, or damaged.
    pub fn read<T: StoredDocument>(&self, field: &'static str) -> Result<T, Invalid> {
        stored::decode(&self.json).map_err(|error| Invalid::because(field, error))
    }
}

/// Reads a document that must be there.
///
/// # Errors
/// When it is not there, of another kind or version, or damaged.
pub fn required<T: StoredDocument>(
    document: Option<&wire::Document>,
    field: &'static str,
) -> Result<T, Invalid> {
    document.ok_or_else(|| Invalid::missing(field))?.read(field)
}

impl TryFrom<wire::Token> for Token {
    type Error = Invalid;
    fn try_from(wire::Token { cluster, epoch, seq }: wire::Token) -> Result<Self, Invalid> {
        let cluster = cluster.parse().map_err(|error| Invalid::because("token.cluster", error))?;
        Ok(Self { cluster, epoch, seq })
    }
}

impl From<Token> for wire::Token {
    fn from(Token { cluster, epoch, seq }: Token) -> Self {
        Self { cluster: cluster.into(), epoch, seq }
    }
}

impl TryFrom<wire::StepKey> for StepKey {
    type Error = Invalid;
    fn try_from(key: wire::StepKey) -> Result<Self, Invalid> {
        let direction = match key.direction() {
            wire::Direction::Do => Direction::Do,
            wire::Direction::Undo => Direction::Undo,
            wire::Direction::Unspecified => return Err(Invalid::missing("key.direction")),
        };
        let wire::StepKey { deployment, step, direction: _ } = key;
        Ok(Self {
            deployment: deployment.parse().map_err(|error| Invalid::because("key.deployment", error))?,
            step: StepId(u16::try_from(step).map_err(|error| Invalid::because("key.step", error))?),
            direction,
        })
    }
}

impl From<StepKey> for wire::StepKey {
    fn from(StepKey { deployment, step, direction }: StepKey) -> Self {
        let direction = match direction {
            Direction::Do => wire::Direction::Do,
            Direction::Undo => wire::Direction::Undo,
        };
        Self { deployment: deployment.into(), step: step.0.into(), direction: direction.into() }
    }
}

impl wire::Outcome {
    /// # Errors
    /// When it is neither a finding nor a failure.
    pub fn read(&self) -> Result<Outcome, Invalid> {
        match self.outcome.as_ref().ok_or_else(|| Invalid::missing("outcome"))? {
            wire::outcome::Outcome::Finding(finding) => Ok(Ok(finding.read("outcome.finding")?)),
            wire::outcome::Outcome::Failure(failure) => Ok(Err(failure.read("outcome.failure")?)),
        }
    }

    pub fn of(outcome: &Outcome) -> Self {
        let outcome = match outcome {
            Ok(finding) => wire::outcome::Outcome::Finding(wire::Document::of_content(finding)),
            Err(failure) => wire::outcome::Outcome::Failure(wire::Document::of_content(failure)),
        };
        Self { outcome: Some(outcome) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_key_survives_the_wire_and_an_unspecified_direction_does_not_pass() {
        let key = StepKey {
            deployment: "dep_01JBQR2KXYZ987654321012345".parse().expect("an id"),
            step: StepId(3),
            direction: Direction::Undo,
        };
        let sent = wire::StepKey::from(key.clone());
        assert_eq!(StepKey::try_from(sent.clone()), Ok(key));
        let broken = wire::StepKey { direction: 0, ..sent };
        assert_eq!(StepKey::try_from(broken), Err(Invalid::missing("key.direction")));
    }

    #[test]
    fn an_outcome_is_a_finding_or_a_failure() {
        let failure: Outcome = Err(StepFailure::new("it broke"));
        assert_eq!(wire::Outcome::of(&failure).read(), Ok(failure));
        assert_eq!(wire::Outcome { outcome: None }.read(), Err(Invalid::missing("outcome")));
    }
}
