//! The four values of health, and how a series of probes is judged.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::slot::Slot;
use crate::time::{Millis, Timestamp};

/// T10: what an instance, a slot or an environment can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Every check passes.
    Healthy,
    /// Some checks warn, none fails.
    Degraded,
    /// A check fails, or there is no answer.
    Unhealthy,
    /// No probe was made.
    Unknown,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
        })
    }
}

/// One probe of a health endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    pub at: Timestamp,
    pub took: Millis,
    pub answer: Answer,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// An HTTP answer: its status, the status that its body declares, and the body's beginning, redacted.
    Http { status: u16, declared: Option<String>, body: String },
    /// No answer, and why.
    Nothing { why: String },
}

/// What an application may declare itself to be, in lower case.
const WORDS: [(Health, &[&str]); 3] = [
    (Health::Healthy, &["healthy", "ok", "pass", "up"]),
    (Health::Degraded, &["degraded", "warn"]),
    (Health::Unhealthy, &["unhealthy", "fail", "failed", "down", "error", "critical"]),
];

/// What a word, in lower case, declares. `None` if it is none of [`WORDS`].
pub fn declared_health(word: &str) -> Option<Health> {
    WORDS.iter().find(|(_, words)| words.contains(&word)).map(|(health, _)| *health)
}

impl Probe {
    /// The health that this answer means. A 2xx answer counts as what its body declares.
    pub fn health(&self) -> Health {
        match &self.answer {
            Answer::Http { status, declared, .. } if (200..300).contains(status) => match declared {
                None => Health::Healthy,
                Some(word) => declared_health(word).unwrap_or(Health::Unhealthy),
            },
            Answer::Http { .. } | Answer::Nothing { .. } => Health::Unhealthy,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { status, declared: Some(word), .. } if declared_health(word).is_some() => {
                write!(f, "{status} {word}")
            }
            Self::Http { status, declared: Some(word), .. } => {
                write!(f, "{status} {word}, which is no status that Lockstep knows")
            }
            Self::Http { status, declared: None, body } if body.is_empty() => write!(f, "{status}"),
            Self::Http { status, declared: None, body } => write!(f, "{status} {body}"),
            Self::Nothing { why } => f.write_str(why),
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after {}", self.answer, self.took)
    }
}

/// Judges a series of probes, oldest first. It is healthy only if the last `consecutive` are.
pub fn judge(probes: &[Probe], consecutive: u16) -> Health {
    let Some(last) = probes.last() else {
        return Health::Unknown;
    };
    let row = probes.iter().rev().take_while(|probe| probe.health() == Health::Healthy).count();
    match last.health() {
        Health::Healthy if row >= usize::from(consecutive) => Health::Healthy,
        Health::Healthy => Health::Unknown,
        other @ (Health::Degraded | Health::Unhealthy | Health::Unknown) => other,
    }
}

/// The health of one instance, as reported continuously.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceHealth {
    pub container: String,
    pub health: Health,
    /// Newest last; at most ten.
    pub probes: Vec<Probe>,
}

impl InstanceHealth {
    /// The slot of its container, whose name ends with the slot and the last characters of the deployment's id.
    pub fn slot(&self) -> Option<Slot> {
        match self.container.rsplit('-').nth(1)? {
            "blue" => Some(Slot::Blue),
            "green" => Some(Slot::Green),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned;

    #[test]
    fn the_slot_of_an_instance_is_what_its_container_is_called_after() {
        let slot = |container: &str| {
            let container = container.to_owned();
            InstanceHealth { container, health: Health::Healthy, probes: Vec::new() }.slot()
        };
        assert_eq!(slot("ls-notes_production-a-blue-b-green-21012345"), Some(Slot::Green));
        assert_eq!(slot("ls-notes_production-web-blue-21012345"), Some(Slot::Blue));
        for other in ["web", "ls-notes-web-red-1", ""] {
            assert_eq!(slot(other), None, "{other}");
        }
    }

    fn probe(status: u16, declared: Option<&str>) -> Probe {
        let declared = declared.map(ToOwned::to_owned);
        Probe {
            at: Timestamp(0),
            took: Millis(3),
            answer: Answer::Http { status, declared, body: String::new() },
        }
    }

    #[test]
    fn one_good_answer_is_not_health() {
        let good = probe(200, Some("healthy"));
        let bad = probe(500, None);
        assert_eq!(judge(&[], 3), Health::Unknown);
        assert_eq!(judge(core::slice::from_ref(&good), 3), Health::Unknown);
        assert_eq!(judge(&[good.clone(), bad.clone(), good.clone(), good.clone()], 3), Health::Unknown);
        assert_eq!(judge(&[bad.clone(), good.clone(), good.clone(), good.clone()], 3), Health::Healthy);
        assert_eq!(judge(&[good.clone(), good, bad], 1), Health::Unhealthy);
    }

    #[test]
    fn the_body_can_only_make_an_answer_worse() {
        assert_eq!(probe(200, None).health(), Health::Healthy);
        assert_eq!(probe(200, Some("degraded")).health(), Health::Degraded);
        assert_eq!(probe(200, Some("on fire")).health(), Health::Unhealthy);
        assert_eq!(probe(503, Some("healthy")).health(), Health::Unhealthy);
    }
}
