//! What must be so at every moment: invariants 1 to 6 of the design, restated without a look at how the
//! code does it. Every change of the store or of reality comes by [`judge`], which has the world.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::agent::fence::Token;
use lockstep_core::id::DeploymentId;
use lockstep_core::plan::OnFailure;
use lockstep_core::run::engine::Phase;
use lockstep_core::run::journal::{Certainty, Direction, Entry, Event, StepKey, StepStatus};

use crate::invariant::{Broken, ENDS, NOTHING_LOST, ONE_HAND, Violation};
use crate::mirror::Mirror;

mod judge;

/// How long a driver may have the lock before it says so: some find that there is nothing to do.
const UNDRIVEN_MS_MAX: u64 = 5_000;

/// When something is written, and by whom.
#[derive(Debug, Clone, Copy)]
struct Moment {
    now: u64,
    writer: Writer,
}

/// How who writes is at that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    Well,
    /// It is frozen, or dead: this was under way.
    Hindered,
}

/// Why somebody took the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum TakenFor {
    /// Something has befallen its holder.
    AReason,
    #[default]
    Nothing,
}

/// Whether all that hosts report is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Trust {
    #[default]
    Honest,
    /// A host has reported what is not so.
    LiedTo,
}

#[derive(Default)]
pub struct Check {
    pub violation: Option<Violation>,
    trust: Trust,
    pub runs: BTreeMap<DeploymentId, Mirror>,
    /// The newest, by which a state is named.
    newest: Option<DeploymentId>,
    /// The newest token that each host has admitted, whatever its disk has kept.
    fences: BTreeMap<usize, (u64, u64)>,
    /// What executors have done.
    done: BTreeSet<StepKey>,
    /// Steps that had a reason to fail.
    excused: BTreeSet<StepKey>,
    /// Until when a fault holds things up, on the simulation's clock.
    held_up_until: u64,
    /// Whether something has happened by which a driver may lose its lock.
    is_deposition_expected: bool,
    /// Until when what has happened may still cost a driver its lock, though another took it meanwhile.
    excused_until: u64,
    /// Why the lock was taken last: its driver may say so much later, when it
    /// has asked every host.
    taken: TakenFor,
    /// The epoch that has the lock and since when, until its driver says so.
    undriven: Option<(u64, u64)>,
    /// Who took the lock last.
    locked_by: Option<usize>,
    /// Deployments of which an operator was told that they are open.
    pub acknowledged: Vec<DeploymentId>,
}

impl Check {
    pub fn breaks(&mut self, invariant: &'static str, what: impl Into<String>) {
        // What comes after the first is its consequence.
        self.violation.get_or_insert_with(|| Violation { invariant, what: what.into() });
    }

    /// A host reports what is not so. From here on what is recorded is what hosts say, and may not be the reality; every
    /// rule of who may do what, and in which order, still holds.
    pub fn lied_to(&mut self) {
        self.trust = Trust::LiedTo;
    }

    pub fn is_lied_to(&self) -> bool {
        self.trust == Trust::LiedTo
    }

    /// Where the newest deployment stands, in a number.
    pub fn fingerprint(&self) -> u32 {
        let newest = self.newest.as_ref().and_then(|id| self.runs.get(id));
        newest.map_or(0, Mirror::fingerprint)
    }

    pub fn held_up(&mut self, until: u64) {
        self.held_up_until = self.held_up_until.max(until);
    }

    pub fn held_up_until(&self) -> u64 {
        self.held_up_until
    }

    pub fn deposition_expected(&mut self, until: u64) {
        self.is_deposition_expected = true;
        self.excused_until = self.excused_until.max(until);
    }

    pub fn excuse(&mut self, key: &StepKey) {
        self.excused.insert(key.clone());
    }

    pub fn done(&mut self, key: &StepKey) {
        self.done.insert(key.clone());
    }

    fn entry(&mut self, deployment: &DeploymentId, entry: &Entry, moment: Moment) -> Result<(), Broken> {
        let is_lied_to = self.is_lied_to();
        let Some(mirror) = self.runs.get_mut(deployment) else {
            return Err(Broken(NOTHING_LOST, "a journal has an entry and its deployment no plan".to_owned()));
        };
        mirror.may_follow(entry)?;
        let key = |step, direction| StepKey { deployment: deployment.clone(), step, direction };
        match &entry.event {
            Event::LockTaken { .. } => {
                if mirror.is_taken && self.taken == TakenFor::Nothing {
                    return Err(Broken(ENDS, format!("epoch {} takes it over for no reason", entry.epoch)));
                }
                mirror.is_taken = true;
                // What befell the writer while this was under way is still to come.
                self.is_deposition_expected = moment.writer == Writer::Hindered;
                self.undriven = None;
                for intent in mirror.run.open_intents() {
                    let number = mirror.host_number(&intent.host);
                    let fence = self.fences.get(&number).map_or(0, |(epoch, _)| *epoch);
                    if fence < entry.epoch && !mirror.is_past_deadline(intent.step, entry.at) {
                        let what = format!(
                            "epoch {} drives, and host {} works on {} under epoch {fence}",
                            entry.epoch,
                            number + 1,
                            intent.step
                        );
                        return Err(Broken(ONE_HAND, what));
                    }
                }
            }
            Event::Done { step, direction, .. } => {
                if !is_lied_to && !self.done.contains(&key(*step, *direction)) {
                    return Err(Broken(NOTHING_LOST, format!("{step} is called done, and is not")));
                }
            }
            Event::Failed { step, direction, failure } => match failure.certainty {
                Certainty::Failed if !is_lied_to && !self.excused.contains(&key(*step, *direction)) => {
                    let what = format!("{step} failed for no reason: {} {:?}", failure.what, failure.why);
                    return Err(Broken(NOTHING_LOST, what));
                }
                Certainty::Unknown if moment.now > self.held_up_until + 20_000 => {
                    let what = format!("{step} was given up, and nothing was in its way for 20 s");
                    return Err(Broken(ENDS, what));
                }
                Certainty::Failed | Certainty::Unknown => {}
            },
            Event::Begun { .. }
            | Event::Excluded { .. }
            | Event::RevertStarted { .. }
            | Event::Stuck { .. }
            | Event::Resumed { .. }
            | Event::UndoDeferred { .. }
            | Event::Ended { .. } => {}
        }
        mirror.apply(entry)
    }

    /// Somebody takes the lock with this epoch.
    fn locked(&mut self, epoch: u64, now: u64) -> Result<(), Broken> {
        let is_excused = self.is_deposition_expected || now <= self.excused_until;
        self.taken = if is_excused { TakenFor::AReason } else { TakenFor::Nothing };
        let newest = self.newest.as_ref().and_then(|id| self.runs.get(id));
        if newest.is_none_or(|mirror| matches!(mirror.run.phase(), Phase::Ended { .. })) {
            // What is done between deployments has no journal.
            self.undriven = None;
            return Ok(());
        }
        match self.undriven.replace((epoch, now)) {
            Some((before, since)) if !is_excused && now >= since + UNDRIVEN_MS_MAX => {
                Err(Broken(ENDS, format!("epoch {before} had the lock, and nobody drove")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A host carries out a part of a step, under this token.
    fn acts(&mut self, host: usize, key: &StepKey, token: &Token) -> Result<(), Broken> {
        // A host that has not heard of the newest driver may act under an older one, as long as the journal lets the
        // step be under way.
        let Some(mirror) = self.runs.get(&key.deployment) else {
            return Err(Broken(ONE_HAND, format!("{key} belongs to nothing")));
        };
        let standing = mirror.run.step_status(key.step);
        let (epoch, seq) = self.fences.get(&host).copied().unwrap_or_default();
        // A question about the undo of what runs is not about what runs: that goes on until the undo itself comes.
        let goes_on = key.direction == Direction::Do
            && matches!(standing, StepStatus::Undoing { .. } | StepStatus::UndoFailed { .. });
        if token.epoch < epoch && !goes_on {
            let what = format!("host {} acts under {token}, and has admitted {epoch}.{seq}", host + 1);
            return Err(Broken(ONE_HAND, what));
        }
        let is_housekeeping =
            mirror.run.plan().step(key.step).is_some_and(|step| step.on_failure == OnFailure::Note);
        let may = match (key.direction, standing) {
            (
                Direction::Do,
                StepStatus::Begun { .. } | StepStatus::Undoing { .. } | StepStatus::UndoFailed { .. },
            ) => true,
            // What a host that is gone has to undo is owed: until then nobody knows what it does.
            (Direction::Do, StepStatus::Failed { certainty: Certainty::Unknown })
            | (_, StepStatus::UndoDeferred) => true,
            (Direction::Undo, StepStatus::Undoing { .. } | StepStatus::UndoFailed { .. }) => true,
            (Direction::Do | Direction::Undo, _) => false,
        };
        if !may {
            return Err(Broken(ONE_HAND, format!("{key} acts, and the journal has it as {standing:?}")));
        }
        let may_outlive = is_housekeeping || *standing == StepStatus::UndoDeferred;
        if matches!(mirror.run.phase(), Phase::Ended { .. }) && !may_outlive {
            return Err(Broken(ONE_HAND, format!("{key} acts after its deployment's end")));
        }
        Ok(())
    }
}
