//! A host's agent: its session, its journal on a simulated disk with the real rules of admission and
//! intake, and one task for each step, as the real one has them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lockstep_coordinator::store::handover::{Assignment, Report, Reported};
use lockstep_core::agent::accept::{Outcome, StepState};
use lockstep_core::agent::fence::Token;
use lockstep_core::run::journal::{Direction, Finding, StepKey};
use lockstep_mutant::{Mutant, is_on};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::process::{Accepted, AgentProcess};
use crate::disk::Sync;
use crate::execute::{Job, JobEnd};
use crate::fault::Fault;
use crate::message::{Incoming, ToAgent};
use crate::world::{World, wait};

pub mod process;

/// A report counts as arrived when its stream has held this long after it.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// The shortest and the longest wait before a coordinator is dialled again.
const WAIT_MIN_MS: u64 = 200;
const WAIT_MAX_MS: u64 = 5_000;

struct Active {
    cancel: CancellationToken,
    again: Option<Assignment>,
}

struct Agent {
    me: AgentProcess,
    jobs: JoinSet<(StepKey, JobEnd)>,
    active: BTreeMap<StepKey, Active>,
    /// One step of the environment at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
    dial_at: Option<Instant>,
    failures: u32,
    unsettled: VecDeque<(Instant, Token, StepKey)>,
}

impl World {
    pub fn start_agent(self: &Arc<Self>, host: usize) {
        let (sender, inbox) = mpsc::unbounded_channel();
        let incarnation = {
            let there = &mut self.lock().hosts[host];
            there.process.incarnation += 1;
            there.process.is_up = true;
            there.inbox = Some(sender);
            there.process.incarnation
        };
        self.tell(|| format!("agent {} starts", host + 1));
        let me = AgentProcess { world: Arc::clone(self), host, incarnation };
        let task = tokio::spawn(Agent::new(me).run(inbox));
        self.lock().hosts[host].process.tasks.push(task.abort_handle());
    }

    /// The agent's process dies; with power lost, so does what its disk had not synced.
    pub fn crash_agent(self: &Arc<Self>, host: usize, fault: Fault) {
        let restart_ms =
            self.chance(|rng| if rng.u8(0..8) == 0 { rng.u64(1..60_000) } else { rng.u64(100..6_000) });
        let session = {
            let there = &mut self.lock().hosts[host];
            there.process.incarnation += 1;
            there.process.is_up = false;
            there.inbox = None;
            there.process.tasks.drain(..).for_each(|task| task.abort());
            if fault == Fault::HostCrash {
                there.disk.lose();
            }
            there.session.take()
        };
        self.tell(|| format!("agent {} is dead", host + 1));
        if fault == Fault::HostCrash {
            self.containers_restart(host, restart_ms);
        }
        self.holds_up(restart_ms + 12_000);
        if let Some(session) = session {
            if let Some(stream) = self.lock().sessions.get_mut(&session) {
                stream.is_broken = true;
            }
            let noticed_ms = self.chance(|rng| rng.u64(5..3_000));
            self.hang_up(session, noticed_ms);
        }
        let world = Arc::clone(self);
        tokio::spawn(async move {
            wait(restart_ms).await;
            world.start_agent(host);
        });
    }
}

impl World {
    /// An outcome goes out, under the newest token that spoke of its step.
    pub fn report(self: &Arc<Self>, host: usize, key: &StepKey, outcome: &Outcome) -> Option<Token> {
        let (session, token) = {
            let state = self.lock();
            let there = &state.hosts[host];
            (there.session, there.disk.read().known(key).map(|known| known.token.clone())?)
        };
        let outcome = match outcome {
            Ok(finding) => Reported::Done(finding.clone()),
            Err(failure) => Reported::Failed(failure.clone()),
        };
        let report =
            Report { token: token.clone(), key: key.clone(), environment: self.key.clone(), outcome };
        self.send_to_coordinator(session?, report);
        Some(token)
    }
}

impl Agent {
    fn new(me: AgentProcess) -> Self {
        Self {
            me,
            jobs: JoinSet::new(),
            active: BTreeMap::new(),
            turn: Arc::default(),
            dial_at: Some(Instant::now()),
            failures: 0,
            unsettled: VecDeque::new(),
        }
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Incoming>) {
        self.interrupt();
        loop {
            self.me.gate().await;
            let settles = self.unsettled.front().map(|(at, ..)| *at + SETTLED_AFTER);
            tokio::select! {
                biased;
                incoming = inbox.recv() => match incoming {
                    Some(Incoming::Message { session, message }) => {
                        // What comes over a stream that is lost is not read.
                        if session.is_none() || session == self.session() {
                            self.obey(message).await;
                        }
                    }
                    Some(Incoming::Broken { session }) => self.lost(session),
                    None => return,
                },
                Some(left) = self.jobs.join_next() => self.left(left),
                () = until(self.dial_at) => self.dial().await,
                () = until(settles) => self.settle(),
            }
        }
    }

    fn session(&self) -> Option<u64> {
        self.me.world.lock().hosts[self.me.host].session
    }

    /// What an earlier process was doing has ended with it.
    fn interrupt(&self) {
        self.me.write(Sync::Yes, |tables| {
            for row in tables.rows.values_mut() {
                if row.known.state == StepState::Running {
                    row.known.state = if is_on(Mutant::InterruptedIsDone) {
                        StepState::Ended(Ok(Finding::default()))
                    } else {
                        StepState::Interrupted
                    };
                }
            }
        });
    }

    async fn dial(&mut self) {
        self.dial_at = None;
        wait(5).await;
        self.me.gate().await;
        let world = &self.me.world;
        let coordinators = world.lock().coordinators.len();
        let turn = usize::try_from(self.failures).unwrap_or(0) % coordinators;
        let Some(session) = world.attach(self.me.host, turn) else {
            let wait_ms = (WAIT_MIN_MS << self.failures.min(5)).min(WAIT_MAX_MS);
            self.failures += 1;
            self.dial_at = Some(Instant::now() + Duration::from_millis(wait_ms));
            return;
        };
        world.lock().hosts[self.me.host].session = Some(session);
        world.tell(|| format!("agent {} is attached to c{}", self.me.host + 1, turn + 1));
        self.unsettled.clear();
        let unsettled = world.lock().hosts[self.me.host].disk.read().unsettled();
        for (key, _, outcome) in unsettled {
            self.report(&key, &outcome);
        }
    }

    fn lost(&mut self, session: u64) {
        if self.session() != Some(session) {
            return;
        }
        self.me.world.lock().hosts[self.me.host].session = None;
        self.unsettled.clear();
        self.failures += 1;
        self.dial_at = Some(Instant::now() + Duration::from_millis(WAIT_MIN_MS));
    }

    async fn obey(&mut self, message: ToAgent) {
        match message {
            ToAgent::Assign(assignment) => {
                let accepted = self.me.accept(&assignment).await;
                let Assignment { token, key, environment, .. } = (*assignment).clone();
                match accepted {
                    Accepted::Begin => self.start(*assignment),
                    Accepted::Ended(outcome) => self.report(&key, &outcome),
                    Accepted::Refused(why) => {
                        self.refuse(Report { token, key, environment, outcome: Reported::Refused { why } });
                    }
                }
            }
            ToAgent::Ask(question, reply) => match self.me.ask(&question).await {
                Ok(standings) => {
                    // The way back takes its time too.
                    wait(2).await;
                    let waiting = reply.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
                    if let Some(waiting) = waiting
                        && waiting.send(standings).is_err()
                    {
                        // Nobody waits for it any more.
                    }
                }
                Err(why) => {
                    let Some(first) = question.keys.into_iter().next() else { return };
                    let outcome = Reported::Refused { why };
                    let (token, environment) = (question.token, question.environment);
                    self.refuse(Report { token, key: first, environment, outcome });
                }
            },
        }
    }

    fn refuse(&self, report: Report) {
        self.me.world.tell(|| format!("agent {} refuses {} {}", self.me.host + 1, report.token, report.key));
        if let Some(session) = self.session() {
            self.me.world.send_to_coordinator(session, report);
        }
    }

    fn start(&mut self, assignment: Assignment) {
        let key = assignment.key.clone();
        if let Some(active) = self.active.get_mut(&key) {
            active.again = Some(assignment);
            return;
        }
        if key.direction == Direction::Undo && !is_on(Mutant::UndoBesideDo) {
            let doing = StepKey { direction: Direction::Do, ..key.clone() };
            if let Some(active) = self.active.get(&doing) {
                active.cancel.cancel();
            }
        }
        let cancel = CancellationToken::new();
        let turn = Arc::clone(&self.turn);
        let job = Job { me: self.me.clone(), assignment, cancel: cancel.clone() };
        let of = key.clone();
        self.jobs.spawn(async move {
            let _turn = match is_on(Mutant::UndoBesideDo) {
                true => None,
                false => Some(turn.lock().await),
            };
            (of, job.carry_out().await)
        });
        self.active.insert(key, Active { cancel, again: None });
    }

    fn left(&mut self, left: Result<(StepKey, JobEnd), tokio::task::JoinError>) {
        let Ok((key, left)) = left else {
            self.me.world.break_off("the simulation", "a job broke");
            return;
        };
        let again = self.active.remove(&key).and_then(|active| active.again);
        match (left, again) {
            (JobEnd::Withdrawn, Some(assignment)) => self.start(assignment),
            (JobEnd::Withdrawn, None) => {}
            (JobEnd::Ended(outcome), _) => self.report(&key, &outcome),
        }
    }

    /// Reports, if anybody is there; else the journal keeps it for who comes next.
    fn report(&mut self, key: &StepKey, outcome: &Outcome) {
        if let Some(token) = self.me.world.report(self.me.host, key, outcome) {
            self.unsettled.push_back((Instant::now(), token, key.clone()));
        }
    }

    /// The oldest report has arrived, as far as anybody can tell.
    fn settle(&mut self) {
        let Some((_, token, key)) = self.unsettled.pop_front() else { return };
        self.me.write(Sync::Yes, |tables| {
            if let Some(row) = tables.rows.get_mut(&key)
                && row.known.token == token
            {
                row.settled = true;
            }
        });
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
