//! Deliberate bugs of the protocol, switched on one at a time, so that the simulation can show that it
//! would find each.
//!
//! What must stay true: without the feature `on` there is no switch and [`is_on`] is a constant, so that
//! no build but the simulation's has any of them; with it, nothing is wrong until [`switch_on`].
#![no_std]

/// Whether this build has the switch. The coordinator's program refuses to be built with it.
pub const BUILT_IN: bool = cfg!(feature = "on");

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $mutant:ident,)*) => {
        /// One deliberate bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant {
            $($(#[doc = $doc])+ $mutant,)*
        }

        impl Mutant {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$mutant,)*];

            /// What it does wrong.
            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$mutant => concat!($($doc),+).trim_ascii(),)*
                }
            }
        }
    };
}

mutants! {
    // The lock and the store.

    /// A driver writes whether or not the lock is still its own.
    LockGuardSkipped,
    /// A driver writes whether or not the epoch is still its own.
    EpochGuardSkipped,
    /// Who takes the lock keeps the epoch of the one before.
    EpochKept,
    /// The lock is given back whoever has it.
    ReleasedUnconditionally,
    /// An attempt of unknown outcome is made again with another nonce.
    NewNonce,

    // The driver.

    /// A write of unknown outcome counts as refused.
    UnknownIsRefused,
    /// A write of unknown outcome counts as committed.
    UnknownIsCommitted,
    /// A refused write is ignored, and the driver goes on.
    DepositionIgnored,
    /// A lease that is gone is ignored.
    LostLeaseIgnored,
    /// Who takes over asks no host about open intents.
    NobodyAsked,
    /// A step of which its host has not heard is not sent again.
    UnheardForgotten,
    /// Only a watch wakes a driver.
    WatchTrusted,
    /// A report is deleted, and what it says is not in the journal.
    ReportDropped,
    /// A report counts whichever host it comes from.
    ReportOfAnybody,
    /// A refusal counts, whichever assignment it is of.
    AnyRefusalCounts,
    /// What was handed out stays handed out.
    NothingWithdrawn,
    /// What a predecessor handed out is not known.
    PredecessorsHandoutsForgotten,
    /// The end does not say what is live.
    LiveForgotten,
    /// What an operator wishes is not looked at.
    WishIgnored,

    // The engine.

    /// It is unwound, and the journal does not say so.
    TurnNotRecorded,
    /// A step whose outcome is unknown is not undone.
    UnknownNotUndone,
    /// A time-out counts as a failure.
    UnknownIsFailed,
    /// The oldest wave is undone first.
    OldestUndoneFirst,
    /// A wave begins when the one before has begun.
    NextWaveEarly,
    /// A host that was passed by gets requests all the same.
    PassedByServes,
    /// What a host that was passed by has begun is not taken back.
    PassedByNotOwed,

    // What is owned.

    /// Whoever may deploy deploys to hosts that the environment is not granted.
    GrantNotAsked,
    /// A site's name is given to an environment though another one has it.
    NameOfAnotherGiven,

    // The planner.

    /// The plan migrates before it takes the snapshot.
    MigratesBeforeSnapshot,
    /// The plan switches without a health check.
    SwitchesUnchecked,
    /// The plan starts on hosts that the database keeps out.
    StartsKeptOut,

    // The hosts' rules.

    /// A host admits every token.
    FenceSkipped,
    /// A host compares epochs and not the order within one, and a "do" whose undo came begins all the same:
    /// either is made good by the other.
    OrderAndTombstoneSkipped,
    /// What was accepted begins, whatever came since.
    BeginsThoughNewer,
    /// A step that has ended is carried out again.
    EndedBeginsAgain,
    /// The failure of an undo is its answer for ever.
    FailedUndoNotRetried,

    // The simulated host, where it stands for what the real one does.

    /// The fence is raised in memory only.
    FenceNotSynced,
    /// An outcome is reported and not yet on the disk.
    OutcomeNotSynced,
    /// A step is reported as done when it begins.
    AnsweredBeforeWork,
    /// What was interrupted counts as done.
    InterruptedIsDone,
    /// An undo does not wait for its "do".
    UndoBesideDo,
    /// A container of another specification is adopted.
    AnyContainerAdopted,
    /// Migrations are applied without a look at what is there.
    MigratesBlindly,
}

/// Makes this process wrong in one way, or right again.
#[cfg(feature = "on")]
pub fn switch_on(mutant: Option<Mutant>) {
    let number = mutant.map_or(0, |mutant| mutant as u8 + 1);
    switch::NUMBER.store(number, core::sync::atomic::Ordering::Relaxed);
}

/// Whether the process is wrong in this way.
#[cfg(feature = "on")]
#[inline]
pub fn is_on(mutant: Mutant) -> bool {
    switch::NUMBER.load(core::sync::atomic::Ordering::Relaxed) == mutant as u8 + 1
}

/// Without effect: this build has no mutants.
#[cfg(not(feature = "on"))]
pub const fn switch_on(_: Option<Mutant>) {}

/// Never: this build has no mutants.
#[cfg(not(feature = "on"))]
#[inline(always)]
pub const fn is_on(_: Mutant) -> bool {
    false
}

#[cfg(feature = "on")]
mod switch {
    use core::sync::atomic::AtomicU8;

    pub(super) static NUMBER: AtomicU8 = AtomicU8::new(0);
}
