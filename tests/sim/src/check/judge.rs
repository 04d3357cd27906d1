//! Judges every change of the store and of reality by the invariants, with what the check remembers.

use bytes::Bytes;
use lockstep_coordinator::store::guarded::{LockRecord, epoch_of};
use lockstep_coordinator::store::{Key, keys};
use lockstep_core::agent::fence::Token;
use lockstep_core::id::DeploymentId;
use lockstep_core::plan::Plan;
use lockstep_core::plan::action::Endpoint;
use lockstep_core::plan::operation::Operation;
use lockstep_core::record::claim::{Claim, ClaimKind, OperatorRequest};
use lockstep_core::record::live::LiveRelease;
use lockstep_core::record::owned_names::{OwnedName, OwnedNames};
use lockstep_core::run::journal::{Entry, Event, StepKey, Verdict};
use lockstep_core::stored;

use super::{Moment, Writer};
use crate::invariant::{Broken, ENDS, NOTHING_LOST, ONCE, ONE_HAND, OWN, REALITY, TRAFFIC};
use crate::mirror::Mirror;
use crate::reality::{Container, HealthCheck, Reality};
use crate::world::{State, World};

/// How long after its cause a lease may end.
const DEPOSED_WITHIN_MS: u64 = 13_000;

impl World {
    /// A host has admitted this token.
    pub fn fenced(&self, host: usize, token: &Token) {
        let mut state = self.lock();
        let fence = state.check.fences.entry(host).or_default();
        *fence = (*fence).max((token.epoch, token.seq));
    }

    pub fn acts(&self, host: usize, key: &StepKey) {
        let outcome = {
            let mut state = self.lock();
            let token = state.hosts[host].disk.read().known(key).map(|known| known.token.clone());
            match token {
                Some(token) => state.check.acts(host, key, &token),
                None => Err(Broken(NOTHING_LOST, format!("{key} acts and is not in its host's journal"))),
            }
        };
        self.judge(outcome);
    }

    /// A step begins: under the newest token that its host has admitted.
    pub fn begins(&self, host: usize, key: &StepKey, token: &Token) {
        let newest = self.lock().check.fences.get(&host).copied().unwrap_or_default();
        if (token.epoch, token.seq) < newest {
            let what =
                format!("{key} begins under {token}, and its host has admitted {}.{}", newest.0, newest.1);
            self.break_off(ONE_HAND, what);
        }
    }

    /// What has happened may cost a driver its lock.
    pub fn deposes(&self, for_ms: u64) {
        let until = self.now() + for_ms + DEPOSED_WITHIN_MS;
        self.lock().check.deposition_expected(until);
    }

    fn judge(&self, outcome: Result<(), Broken>) {
        if let Err(Broken(invariant, what)) = outcome {
            self.break_off(invariant, what);
        }
    }

    /// Reality has changed: requests must still go where they are answered.
    pub fn look(&self) {
        let broken = {
            let state = self.lock();
            if state.check.is_lied_to() { Ok(()) } else { traffic(&state.reality) }
        };
        // The site of a first deployment that its host, which was gone, still has to take away: nothing was
        // served there before.
        let is_owed = || !self.store.peek_all(&keys::all_pending_undos()).is_empty();
        if broken.is_err() && self.store.peek(&self.keys.live).is_none() && is_owed() {
            return;
        }
        self.judge(broken);
    }

    pub fn migrated(&self, deployment: &DeploymentId, version: u64) {
        let outcome = {
            let state = self.lock();
            let database = &state.reality.database;
            let times = database.applied.iter().filter(|applied| **applied == version).count();
            if times != 1 {
                Err(Broken(ONCE, format!("migration {version} was applied {times} times")))
            } else if !state.check.is_lied_to() && !database.snapshots.contains(deployment) {
                Err(Broken(ONCE, format!("migration {version} was applied before there was a snapshot")))
            } else {
                Ok(())
            }
        };
        self.judge(outcome);
    }

    /// A transaction of a coordinator has happened.
    pub fn committed(&self, coordinator: usize, written: &[(Key, Option<Bytes>)]) {
        let outcome = self.take_in(coordinator, written);
        self.judge(outcome);
    }

    fn take_in(&self, coordinator: usize, written: &[(Key, Option<Bytes>)]) -> Result<(), Broken> {
        for (key, value) in written {
            if *key == self.keys.lock {
                let before = match value {
                    Some(_) => self.lock().check.locked_by.replace(coordinator),
                    None => self.lock().check.locked_by.take(),
                };
                if value.is_none() && before.is_some_and(|before| before != coordinator) {
                    let what = format!("c{} gives back a lock that is not its own", coordinator + 1);
                    return Err(Broken(ONE_HAND, what));
                }
            }
            let (key, Some(value)) = (key.as_str(), value) else { continue };
            let Some(rest) = key.strip_prefix("/lockstep/v1/") else { continue };
            let parts: Vec<&str> = rest.split('/').collect();
            match parts.as_slice() {
                ["deployment", id, "plan"] => {
                    let plan: Plan = read(value)?;
                    let id: DeploymentId =
                        id.parse().map_err(|_| Broken(NOTHING_LOST, format!("{id} is no id")))?;
                    let mut state = self.lock();
                    let hosts = state.hosts.iter().map(|host| host.id.clone()).collect();
                    state.check.newest = Some(id.clone());
                    state.check.is_deposition_expected = false;
                    state.check.undriven = None;
                    state.check.runs.insert(id, Mirror::of(plan, hosts));
                }
                ["deployment", id, "journal", _] => {
                    let entry: Entry = read(value)?;
                    let id: DeploymentId =
                        id.parse().map_err(|_| Broken(NOTHING_LOST, format!("{id} is no id")))?;
                    self.written(coordinator, &id, &entry)?;
                }
                ["env", _, _, "lock"] => {
                    let lock: LockRecord = read(value)?;
                    let now = self.now();
                    self.lock().check.locked(lock.epoch, now)?;
                }
                ["env", _, _, "open"] => {
                    let open: Claim = read(value)?;
                    if let ClaimKind::Running { deployment, request: OperatorRequest::Cancel { .. } } =
                        &open.kind
                        && let Some(mirror) = self.lock().check.runs.get_mut(deployment)
                    {
                        mirror.cancelled();
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn written(&self, coordinator: usize, id: &DeploymentId, entry: &Entry) -> Result<(), Broken> {
        self.tell(|| format!("c{} writes {}.{} {:?}", coordinator + 1, entry.epoch, entry.seq, entry.event));
        let now = self.now();
        {
            let mut state = self.lock();
            let number = u64::from(entry.seq) << 8 | entry.epoch;
            state.trace.note(number);
        }
        let lock = self.store.peek(&self.keys.lock);
        let lock: Option<LockRecord> = lock.and_then(|stored| stored.read().ok());
        if lock.as_ref().map(|lock| lock.epoch) != Some(entry.epoch) {
            let what = format!("an entry of epoch {} is written, and the lock is {lock:?}", entry.epoch);
            return Err(Broken(ONE_HAND, what));
        }
        let epoch = epoch_of(self.store.peek(&self.keys.epoch).as_ref()).unwrap_or(0);
        if epoch != entry.epoch {
            let what = format!("an entry of epoch {} is written, and the epoch is {epoch}", entry.epoch);
            return Err(Broken(ONE_HAND, what));
        }
        let writer = {
            let there = &self.lock().coordinators[coordinator];
            let is_well = there.process.is_up && there.frozen_until.is_none();
            if is_well { Writer::Well } else { Writer::Hindered }
        };
        if let Event::Done { step, direction, .. } = &entry.event {
            let key = StepKey { deployment: id.clone(), step: *step, direction: *direction };
            let is_kept = self.lock().hosts.iter().any(|host| host.disk.keeps_outcome(&key));
            if !is_kept && !self.lock().check.is_lied_to() {
                return Err(Broken(NOTHING_LOST, format!("{step} is called done, and no disk has it")));
            }
        }
        self.lock().check.entry(id, entry, Moment { now, writer })?;
        if let Event::Ended { verdict } = entry.event {
            let hosts: Vec<_> = self.lock().hosts.iter().map(|host| host.id.clone()).collect();
            if hosts.iter().any(|host| !self.store.peek_all(&keys::assignments(host, &self.key)).is_empty()) {
                let what = "a deployment has ended, and a step of it is still handed out";
                return Err(Broken(REALITY, what.to_owned()));
            }
            self.ended(id, verdict)?;
        }
        Ok(())
    }

    /// A deployment has ended: what is recorded is so.
    pub fn ended(&self, id: &DeploymentId, verdict: Verdict) -> Result<(), Broken> {
        if self.store.peek(&self.keys.open).is_some() {
            return Err(Broken(ENDS, "a deployment has ended, and is open".to_owned()));
        }
        let live: Option<LiveRelease> =
            self.store.peek(&self.keys.live).and_then(|stored| stored.read().ok());
        let state = self.lock();
        let Some(mirror) = state.check.runs.get(id) else {
            return Err(Broken(NOTHING_LOST, format!("{id} ended, and has no plan")));
        };
        let plan = mirror.run.plan();
        if verdict == Verdict::Succeeded && plan.operation != Operation::Decommission {
            self.owns_its_site()?;
        }
        if state.check.is_lied_to() {
            return Ok(());
        }
        match verdict {
            Verdict::Succeeded => succeeded(&state, plan, live.as_ref(), id),
            Verdict::RolledBack if !self.store.peek_all(&keys::all_pending_undos()).is_empty() => Ok(()),
            Verdict::RolledBack => rolled_back(&state, live.as_ref(), id),
        }
    }

    /// The name at which the environment is served is claimed by it.
    fn owns_its_site(&self) -> Result<(), Broken> {
        let names = self.store.peek(keys::names(&self.key).key());
        let names: Option<OwnedNames> = names.and_then(|stored| stored.read().ok());
        let each = names.map(|names| names.each()).unwrap_or_default();
        let site = each.iter().find(|name| matches!(name, OwnedName::Site(_)));
        let owner = site.and_then(|site| self.store.peek(keys::owned_name(site).key()));
        if owner.is_some_and(|owner| owner.value == self.key.to_string()) {
            return Ok(());
        }
        Err(Broken(OWN, "the environment is served, and its name is not its own".to_owned()))
    }
}

fn read<T: stored::StoredDocument>(value: &[u8]) -> Result<T, Broken> {
    stored::decode(value).map_err(|error| Broken(NOTHING_LOST, error.to_string()))
}

/// Requests go only to a slot whose every instance is there, runs, and has passed its check.
fn traffic(reality: &Reality) -> Result<(), Broken> {
    let Some(slot) = reality.nginx.target() else { return Ok(()) };
    // What a host that was passed by has in the slot gets none.
    let mut web = reality.at(reality.nginx.instances()).filter(|there| there.slot == slot).peekable();
    if web.peek().is_none() {
        return Err(Broken(TRAFFIC, format!("requests go to {slot}, and nothing is there")));
    }
    if let Some(there) = web.find(|there| there.check == HealthCheck::NotPassed || !there.is_started) {
        let what = format!("requests go to {slot}, and {} there has not passed its check", there.process);
        return Err(Broken(TRAFFIC, what));
    }
    let is_there = |wanted: &Endpoint| {
        reality.of_slot(slot).any(|there| there.endpoint.as_ref().is_some_and(|own| own == wanted))
    };
    match reality.nginx.instances().iter().find(|wanted| !is_there(wanted)) {
        None => kept_out(reality),
        Some(missing) => Err(Broken(TRAFFIC, format!("requests go to {missing}, and nothing is there"))),
    }
}

/// Requests go only to hosts that the database lets in.
fn kept_out(reality: &Reality) -> Result<(), Broken> {
    let is_let_in = |there: &Endpoint| {
        there.address == reality.database.address
            || reality.database.lines.iter().any(|line| line.address == there.address)
    };
    match reality.nginx.instances().iter().find(|there| !is_let_in(there)) {
        None => Ok(()),
        Some(out) => Err(Broken(TRAFFIC, format!("requests go to {out}, and its database keeps it out"))),
    }
}

fn succeeded(
    state: &State,
    plan: &Plan,
    live: Option<&LiveRelease>,
    id: &DeploymentId,
) -> Result<(), Broken> {
    let (slot, reality) = (plan.slot, &state.reality);
    let broken = |what: String| Err(Broken(REALITY, what));
    if plan.operation == Operation::Decommission {
        return given_up(state, live, id);
    }
    let live = match live {
        // A host that comes back brings nothing new.
        Some(live) if live.slot == slot && (live.deployment == *id || !plan.kind.changes_release()) => live,
        Some(_) | None => return broken(format!("{id} has succeeded, and is not recorded as live")),
    };
    if reality.nginx.target() != Some(slot) {
        return broken(format!("{slot} is recorded, and requests go to {:?}", reality.nginx.target()));
    }
    let mut serving = state.serving(live).flatten().filter(|there| there.slot == slot);
    if let Some(other) = serving.find(|there| there.image != plan.release.image_id) {
        return broken(format!("{} of {slot} is of another release", other.process));
    }
    if reality.database.version < plan.release.schema_version() {
        return broken(format!("the schema is at {}", reality.database.version));
    }
    workers(state, live)
}

/// Nothing is live, nothing is served, and nothing is left on the hosts; the database has a last snapshot.
fn given_up(state: &State, live: Option<&LiveRelease>, id: &DeploymentId) -> Result<(), Broken> {
    let reality = &state.reality;
    let broken = |what: String| Err(Broken(REALITY, what));
    if live.is_some() || reality.nginx.site.is_some() {
        return broken(format!("{id} has given the environment up, and it is live"));
    }
    if !reality.database.snapshots.contains(id) {
        return broken(format!("{id} has given the environment up without a last snapshot"));
    }
    Ok(())
}

fn rolled_back(state: &State, live: Option<&LiveRelease>, id: &DeploymentId) -> Result<(), Broken> {
    let reality = &state.reality;
    let broken = |what: String| Err(Broken(REALITY, what));
    let of_it = |there: &&Container| there.deployment == *id;
    if let Some(left) = reality.all().find(of_it) {
        return broken(format!("{id} is rolled back, and {} of {} is there", left.process, left.slot));
    }
    let target = reality.nginx.target();
    if target != live.map(|live| live.slot) {
        return broken(format!(
            "{:?} is recorded, and requests go to {target:?}",
            live.map(|live| live.slot)
        ));
    }
    live.map_or(Ok(()), |live| workers(state, live))
}

/// Workers run in one slot, and there they do. What runs on a host that was passed by goes on.
fn workers(state: &State, live: &LiveRelease) -> Result<(), Broken> {
    let slot = live.slot;
    let is_running = |there: &&Container| !there.is_web() && there.is_started;
    let mut others = state.serving(live).flatten().filter(|there| there.slot == slot.other());
    if others.any(|there| is_running(&there)) {
        return Err(Broken(REALITY, format!("workers of {} run beside those of {slot}", slot.other())));
    }
    for host in state.serving(live) {
        let mut own = host.iter().filter(|there| there.slot == slot).peekable();
        if own.peek().is_some() && !own.any(|there| is_running(&there)) {
            return Err(Broken(REALITY, format!("no worker of {slot} runs on one of its hosts")));
        }
    }
    Ok(())
}
