//! The network between coordinators and hosts: sessions that break, and messages that come late, twice,
//! or never. What the holder of a session does is what the real one does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockstep_coordinator::store::guarded;
use lockstep_coordinator::store::handover::{Assignment, Report, Reported};
use lockstep_coordinator::store::{Key, Prefix, Store, StoreError, Stored, keys};
use lockstep_core::run::journal::{Finding, StepFailure};
use tokio::sync::mpsc;

use crate::fault::{Fault, Point};
use crate::link::Link;
use crate::message::{Incoming, ToAgent};
use crate::world::{Session, State, World, wait};

/// How long a message is under way.
const LATENCY_MS: u64 = 2;

/// The latest that a message comes: later than the deadline of the first step.
const LATE_MS_MAX: u64 = 80_000;

/// How often assignments are looked for though nothing woke anybody.
const LOOK_EVERY: Duration = Duration::from_secs(2);

impl World {
    /// An agent dials. Says the session, if the coordinator takes it on.
    pub fn attach(self: &Arc<Self>, host: usize, coordinator: usize) -> Option<u64> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (session, link) = {
            let mut state = self.lock();
            let there = &state.coordinators[coordinator];
            let is_there = there.process.is_up && there.frozen_until.is_none();
            if !is_there || there.connected.contains_key(&host) {
                return None;
            }
            let incarnation = there.process.incarnation;
            let session = state.next_session;
            state.next_session += 1;
            let stream = Session { host, coordinator, is_broken: false, to_coordinator: Some(sender) };
            state.sessions.insert(session, stream);
            state.coordinators[coordinator].connected.insert(host, session);
            (session, Link { world: Arc::clone(self), coordinator, incarnation })
        };
        let task = tokio::spawn(serve(link, host, session, receiver));
        self.lock().coordinators[coordinator].process.tasks.push(task.abort_handle());
        Some(session)
    }

    /// A session breaks: its agent sees it then, its coordinator at some other time.
    pub fn lose_session(self: &Arc<Self>, session: u64, noticed_ms: u64) {
        if let Some(stream) = self.lock().sessions.get_mut(&session) {
            stream.is_broken = true;
        }
        let also_ms = self.chance(|rng| rng.u64(5..8_000));
        self.holds_up(noticed_ms.max(also_ms) + 8_000);
        let world = Arc::clone(self);
        tokio::spawn(async move {
            wait(noticed_ms).await;
            let host = world.lock().sessions.get(&session).map(|stream| stream.host);
            if let Some(host) = host {
                world.deliver(host, Incoming::Broken { session });
            }
        });
        self.hang_up(session, also_ms);
    }

    /// The coordinator's end of a session is closed after a while.
    pub fn hang_up(self: &Arc<Self>, session: u64, after_ms: u64) {
        let world = Arc::clone(self);
        tokio::spawn(async move {
            wait(after_ms).await;
            if let Some(stream) = world.lock().sessions.get_mut(&session) {
                stream.to_coordinator = None;
            }
        });
    }

    fn deliver(&self, host: usize, incoming: Incoming) {
        if let Some(inbox) = &self.lock().hosts[host].inbox
            && inbox.send(incoming).is_err()
        {
            // Its agent has just died: so does the message.
        }
    }

    pub fn send_to_agent(self: &Arc<Self>, session: u64, message: ToAgent) {
        let Some(host) = self.open(session) else { return };
        let mut after_ms = LATENCY_MS;
        match self.strike(Point::ToAgent) {
            Some(Fault::SessionBreaks) => return self.breaks(session),
            Some(Fault::MessageLate) => after_ms = self.late(),
            Some(Fault::MessageTwice) => {
                let again_ms = self.late();
                self.later(again_ms, host, None, message.clone());
            }
            Some(_) | None => {}
        }
        // One that is late comes whatever became of its session.
        let through = (after_ms == LATENCY_MS).then_some(session);
        self.later(after_ms, host, through, message);
    }

    fn later(self: &Arc<Self>, after_ms: u64, host: usize, session: Option<u64>, message: ToAgent) {
        let world = Arc::clone(self);
        let incarnation = self.lock().hosts[host].process.incarnation;
        tokio::spawn(async move {
            wait(after_ms).await;
            // Another process has other streams.
            if world.lock().hosts[host].process.incarnation != incarnation {
                return;
            }
            if session.is_none_or(|session| world.open(session).is_some()) {
                world.deliver(host, Incoming::Message { session, message });
            }
        });
    }

    pub fn send_to_coordinator(self: &Arc<Self>, session: u64, mut report: Report) {
        let Some(host) = self.open(session) else { return };
        let mut after_ms = LATENCY_MS;
        let mut times = 1;
        match self.strike(Point::FromAgent) {
            Some(Fault::SessionBreaks) => return self.breaks(session),
            Some(Fault::MessageLate) => after_ms = self.late(),
            Some(Fault::MessageTwice) => times = 2,
            Some(Fault::ReportForged) => self.forge_report(session),
            Some(Fault::ReportReplayed) => self.replay_report(session, host),
            Some(Fault::HostLies) => {
                self.lock().check.lied_to();
                report.outcome = opposite(report.outcome);
            }
            Some(_) | None => {}
        }
        self.lock().hosts[host].reported.push(report.clone());
        for time in 0..times {
            let (world, report) = (Arc::clone(self), report.clone());
            tokio::spawn(async move {
                wait(after_ms * (1 + 500 * time)).await;
                world.arrive(session, report);
            });
        }
    }

    /// A report is there, if somebody still reads it.
    fn arrive(&self, session: u64, report: Report) {
        let state = self.lock();
        let stream = state.sessions.get(&session);
        if let Some(sender) = stream.and_then(|stream| stream.to_coordinator.as_ref())
            && sender.send(report).is_err()
        {
            // Its coordinator has just died: so does the message.
        }
    }

    /// The host sends what it reported before once more.
    fn replay_report(&self, session: u64, host: usize) {
        let old = {
            let State { rng, hosts, .. } = &mut *self.lock();
            rng.choice(&hosts[host].reported).cloned()
        };
        if let Some(old) = old {
            self.arrive(session, old);
        }
    }

    /// The host of this session says that what was assigned to another one is done.
    fn forge_report(self: &Arc<Self>, session: u64) {
        let Some(host) = self.open(session) else { return };
        let world = Arc::clone(self);
        tokio::spawn(async move {
            let own = world.lock().hosts[host].id.clone();
            let assigned = world.store.list(&keys::all_assignments()).await.unwrap_or_default();
            let of_other =
                assigned.iter().find(|stored| keys::assigned_host(&stored.key) != Some(own.clone()));
            let Some(Ok(assignment)) = of_other.map(Stored::read::<Assignment>) else { return };
            let Assignment { token, key, environment, .. } = assignment;
            let outcome = Reported::Done(Finding::default());
            world.arrive(session, Report { token, key, environment, outcome });
        });
    }

    fn late(&self) -> u64 {
        let ms =
            self.chance(|rng| if rng.u8(0..3) == 0 { rng.u64(1..LATE_MS_MAX) } else { rng.u64(1..8_000) });
        self.holds_up(ms);
        ms
    }

    fn breaks(self: &Arc<Self>, session: u64) {
        let noticed_ms = self.chance(|rng| rng.u64(5..8_000));
        self.lose_session(session, noticed_ms);
    }

    /// The host of a session that is not broken.
    fn open(&self, session: u64) -> Option<usize> {
        let state = self.lock();
        state.sessions.get(&session).filter(|stream| !stream.is_broken).map(|stream| stream.host)
    }
}

/// What a host says that lies.
fn opposite(outcome: Reported) -> Reported {
    match outcome {
        Reported::Done(_) => Reported::Failed(StepFailure::new("the host says so")),
        Reported::Failed(_) => Reported::Done(Finding::default()),
        Reported::Refused { why } => Reported::Refused { why },
    }
}

/// What a coordinator does with a session: what the store has goes out, what the host says goes in.
async fn serve(link: Link, host: usize, session: u64, mut reports: mpsc::UnboundedReceiver<Report>) {
    let world = Arc::clone(&link.world);
    let id = world.lock().hosts[host].id.clone();
    let prefix = keys::assignments_to(&id);
    let mut wakeups = link.watch(&prefix);
    let mut sent = BTreeSet::new();
    while hand_over(&link, &prefix, session, &mut sent).await.is_ok() {
        let is_over = loop {
            let report = tokio::select! {
                biased;
                report = reports.recv() => report,
                () = wakeups.changed() => break false,
                () = tokio::time::sleep(LOOK_EVERY) => break false,
            };
            link.gate().await;
            match report {
                Some(report) if guarded::report(&link, &id, &report).await.is_ok() => {}
                Some(_) | None => break true,
            }
        };
        if is_over {
            break;
        }
        link.gate().await;
    }
    link.gate().await;
    let is_mine = {
        let connected = &mut world.lock().coordinators[link.coordinator].connected;
        let is_mine = connected.get(&host) == Some(&session);
        if is_mine {
            connected.remove(&host);
        }
        is_mine
    };
    if is_mine {
        // Its agent sees that the stream has ended.
        world.lose_session(session, LATENCY_MS);
    }
}

/// Sends every assignment that was not sent in this session.
async fn hand_over(
    link: &Link,
    prefix: &Prefix,
    session: u64,
    sent: &mut BTreeSet<Key>,
) -> Result<(), StoreError> {
    let there = link.list(prefix).await?;
    sent.retain(|key| there.iter().any(|stored| stored.key == *key));
    for stored in there {
        if !sent.contains(&stored.key) {
            let assignment: Assignment = stored.read()?;
            link.world.send_to_agent(session, ToAgent::Assign(Box::new(assignment)));
            sent.insert(stored.key);
        }
    }
    Ok(())
}
