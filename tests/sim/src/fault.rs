//! What can go wrong, where, and how often it did.

use fastrand::Rng;

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $fault:ident = $name:literal,)*) => {
        /// One thing that goes wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[doc = $doc])+ $fault,)*
        }

        impl Fault {
            pub const ALL: &[Self] = &[$(Self::$fault,)*];

            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$fault => $name,)*
                }
            }
        }
    };
}

faults! {
    /// A coordinator dies, and another process of it starts later.
    CoordinatorCrash = "coordinator dies",
    /// A coordinator stops, perhaps for longer than its lease lives, and wakes up.
    CoordinatorFreeze = "coordinator freezes",
    /// A transaction does not happen, and nobody knows.
    RequestLost = "request lost",
    /// A transaction happens, and nobody knows.
    AnswerLost = "answer lost",
    /// The store refuses.
    StoreUnavailable = "store unavailable",
    /// The store takes its time.
    StoreSlow = "store slow",
    /// A lease ends early.
    LeaseLost = "lease lost",
    /// Nobody who watches is told anything for a while.
    WatchLost = "watch lost",
    /// The epoch is raised past the driver, as after a restore.
    EpochRaised = "epoch raised",
    /// A session breaks, with what is under way.
    SessionBreaks = "session breaks",
    /// A message comes much later, and is overtaken.
    MessageLate = "message late",
    /// A message comes once more, later.
    MessageTwice = "message twice",
    /// A host also reports a step of another host as done.
    ReportForged = "report forged",
    /// A host sends an old report again, of whatever step.
    ReportReplayed = "report replayed",
    /// A host reports what is done as failed, and what has failed as done.
    HostLies = "host lies",
    /// An agent dies, and starts again.
    AgentCrash = "agent dies",
    /// A host loses power: its agent dies, and what its disk had not synced is lost.
    HostCrash = "host loses power",
    /// A container ends, and its engine starts it again.
    ContainerDies = "container dies",
    /// The database takes no connection.
    DatabaseRefuses = "database refuses",
    /// An executor fails.
    StepFails = "step fails",
    /// An executor takes long, perhaps longer than its limit.
    StepSlow = "step slow",
    /// A host is busy: a step that it has accepted begins later, and something newer may come before.
    StepWaits = "step waits",
}

/// Where something can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    StoreRead,
    StoreWrite,
    LeaseKept,
    ToAgent,
    FromAgent,
    Journal,
    Begin,
    Phase,
    DatabasePhase,
}

impl Point {
    fn kinds(self) -> &'static [Fault] {
        use Fault::*;
        match self {
            Self::StoreRead => &[CoordinatorCrash, CoordinatorFreeze, StoreUnavailable, StoreSlow, WatchLost],
            Self::StoreWrite => &[
                CoordinatorCrash,
                CoordinatorFreeze,
                RequestLost,
                AnswerLost,
                StoreUnavailable,
                StoreSlow,
                WatchLost,
                EpochRaised,
            ],
            Self::LeaseKept => &[CoordinatorFreeze, LeaseLost, StoreUnavailable],
            Self::ToAgent => &[SessionBreaks, MessageLate, MessageTwice],
            Self::FromAgent => {
                &[SessionBreaks, MessageLate, MessageTwice, ReportForged, ReportReplayed, HostLies]
            }
            Self::Journal => &[AgentCrash, HostCrash],
            Self::Begin => &[StepWaits],
            Self::Phase => &[AgentCrash, HostCrash, ContainerDies, StepFails, StepSlow],
            Self::DatabasePhase => &[AgentCrash, HostCrash, DatabaseRefuses, StepSlow],
        }
    }

    /// How much oftener than a read of the store it is struck: there are many of those.
    fn weight(self) -> u32 {
        match self {
            Self::StoreRead => 1,
            Self::StoreWrite => 6,
            Self::LeaseKept => 3,
            Self::ToAgent
            | Self::FromAgent
            | Self::Journal
            | Self::Begin
            | Self::Phase
            | Self::DatabasePhase => 6,
        }
    }
}

/// The faults of one schedule.
#[derive(Debug, Clone)]
pub struct Faults {
    /// How many there may still be.
    pub budget: u32,
    /// One in so many reads is struck.
    pub rarity: u32,
    /// Which kinds there are in this schedule: few at a time meet more often.
    pub kinds: u32,
    pub struck: [u32; Fault::ALL.len()],
}

impl Faults {
    pub fn none() -> Self {
        Self { budget: 0, rarity: 1, kinds: 0, struck: [0; Fault::ALL.len()] }
    }

    pub fn of(rng: &mut Rng) -> Self {
        let budget = rng.u32(1..=9);
        let rarity = [60, 150, 300, 700][rng.usize(0..4)];
        let mut kinds = if rng.u8(0..4) == 0 { u32::MAX } else { rng.u32(..) | rng.u32(..) & rng.u32(..) };
        // After a lie, little can be asked of what is recorded: so most schedules have none.
        if rng.u8(0..4) != 0 {
            kinds &= !(1 << Fault::HostLies as u32);
        }
        Self { budget, rarity, kinds, struck: [0; Fault::ALL.len()] }
    }

    /// What goes wrong at this point, if anything.
    pub fn strike(&mut self, rng: &mut Rng, point: Point) -> Option<Fault> {
        if self.budget == 0 || rng.u32(0..self.rarity) >= point.weight() {
            return None;
        }
        let kinds = point.kinds();
        let fault = kinds[rng.usize(0..kinds.len())];
        if self.kinds & (1 << fault as u32) == 0 {
            return None;
        }
        self.budget -= 1;
        self.struck[fault as usize] += 1;
        Some(fault)
    }
}
