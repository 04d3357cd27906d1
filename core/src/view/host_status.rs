//! The status of a host: what `lockstep host list` prints and `lockstep doctor` checks.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::health::{Health, InstanceHealth};
use crate::host::Host;
use crate::id::DeploymentId;
use crate::record::pending_undo::PendingUndo;
use crate::release::Release;
use crate::slot::Slot;
use crate::time::{Millis, Timestamp};

/// Clocks further apart make times in the record hard to read; sixteen hours apart, no certificate is good.
const CLOCK_OFF_MAX: Millis = Millis::from_secs(5);

/// A host with less can neither take a snapshot nor pull an image.
const DISK_LOW_BYTES: u64 = 2 * 1024 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostStatus {
    pub host: Host,
    pub presence: Presence,
    /// Of an absent one: when it was seen last.
    pub agent_version: Option<String>,
    /// Of this environment's containers on it.
    pub instances: Vec<InstanceHealth>,
    /// The slots of this environment that have containers.
    #[serde(default)]
    pub slots: Vec<SlotObservation>,
    /// Its pending undos, of every environment.
    #[serde(rename = "debts", default)]
    pub pending_undos: Vec<PendingUndo>,
    /// `None` if it was never seen, or so recently that it is not recorded yet.
    #[serde(default)]
    pub last_seen: Option<Timestamp>,
    /// The last vitals that its agent reported.
    #[serde(default)]
    pub vitals: Option<Vitals>,
    /// `Some` if another machine has its key.
    #[serde(default)]
    pub second: Option<SecondSession>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    Connected,
    Absent,
}

/// What an environment's slot holds on a host, as its agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotObservation {
    pub slot: Slot,
    pub deployment: DeploymentId,
    /// `None` if the history does not reach that far back.
    pub release: Option<Release>,
    /// How many of its containers run, of how many that are there.
    pub running: u32,
    pub containers: u32,
    /// Of the worst of them.
    pub health: Health,
    /// Of the environment's requests, as the load balancer hands them out.
    pub traffic_percent: u8,
}

/// What an agent says of its machine, as its coordinator has heard it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vitals {
    /// By the coordinator's clock.
    pub heard_at: Timestamp,
    pub clock: ClockOffset,
    /// `None` if it is unknown.
    pub disk: Option<Disk>,
    pub certificate: Option<Validity>,
}

/// A machine that showed the key of a host whose session was held, and was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecondSession {
    /// Where it dialled from.
    pub from: String,
    /// When it was refused first, since the session began that is held, and when last.
    pub first: Timestamp,
    pub last: Timestamp,
}

impl SecondSession {
    /// Whether two machines have the key: who has the session was heard after this one was refused. Before that it
    /// may be the same machine, which has come back sooner than its end was noticed.
    pub fn is_proven(&self, held_heard: Option<Timestamp>) -> bool {
        held_heard.is_some_and(|heard| heard > self.first)
    }
}

/// How far a host's clock is before the coordinator's, or behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockOffset {
    /// Negative: behind.
    pub ahead_ms: i64,
    /// The most by which this may be wrong: half of what the question and its answer took together.
    pub within: Millis,
}

impl ClockOffset {
    /// Of a host whose clock said `theirs`, in an answer that came at `ours`, `round_trip` after its question.
    pub fn measured(theirs: Timestamp, ours: Timestamp, round_trip: Millis) -> Self {
        let half = round_trip.0.div_ceil(2);
        let then = ours.0.saturating_sub(half);
        let apart = i64::try_from(theirs.0.abs_diff(then)).unwrap_or(i64::MAX);
        Self { ahead_ms: if theirs.0 < then { -apart } else { apart }, within: Millis(half) }
    }

    /// Whether it is certainly further off than a clock should be.
    pub fn is_off(self) -> bool {
        self.ahead_ms.unsigned_abs() > CLOCK_OFF_MAX.0.saturating_add(self.within.0)
    }
}

impl fmt::Display for ClockOffset {
    /// `+12 ms`, `-3.4 s`, `+2 h 0 min`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.ahead_ms < 0 { '-' } else { '+' };
        f.pad(&format!("{sign}{}", Millis(self.ahead_ms.unsigned_abs())))
    }
}

/// The file system that containers, images and snapshots are on, unless an administrator put them elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    pub free_bytes: u64,
    pub size_bytes: u64,
}

impl Disk {
    pub fn is_nearly_full(self) -> bool {
        self.free_bytes < DISK_LOW_BYTES
    }
}

/// From when until when a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validity {
    pub issued: Timestamp,
    pub ends: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    const NOON: Timestamp = Timestamp(1_800_000_000_000);

    #[test]
    fn half_of_the_round_trip_is_the_answers() {
        let offset = ClockOffset::measured(NOON, Timestamp(NOON.0 + 200), Millis(400));
        assert_eq!((offset.ahead_ms, offset.within), (0, Millis(200)));
        let offset = ClockOffset::measured(NOON, Timestamp(NOON.0 + 3), Millis(5));
        assert_eq!((offset.ahead_ms, offset.within), (0, Millis(3)));
        let ahead = ClockOffset::measured(Timestamp(NOON.0 + 7_200_000), NOON, Millis(20));
        assert_eq!(ahead.to_string(), "+2 h 0 min");
        let behind = ClockOffset::measured(Timestamp(NOON.0 - 3_410), NOON, Millis(20));
        assert_eq!(behind.to_string(), "-3.4 s");
    }

    /// A slow network is no wrong clock.
    #[test]
    fn what_may_be_the_networks_is_not_told_of_a_clock() {
        let off_by = |ms: u64, round_trip: u64| {
            ClockOffset::measured(Timestamp(NOON.0 + ms), NOON, Millis(round_trip)).is_off()
        };
        assert!(!off_by(4_990, 10));
        assert!(off_by(5_100, 10));
        assert!(!off_by(4_000, 8_000));
        assert!(off_by(7_200_000, 8_000));
    }
}
