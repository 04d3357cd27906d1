//! The protocol by itself: two drivers that take turns on one lock, a store, one agent, and a network that
//! keeps every message for ever, so that each may come late, twice, in any order, or never.
//!
//! One deployment of one step is enough for what can go wrong: the step is intended, handed over, done or
//! taken back, and whoever drives may be deposed, frozen or killed at any moment, the agent killed too.
//! The agent's rule of admission is the real one ([`lockstep_core::agent::fence::compare_token`]).
//!
//! What must stay true is in [`Protocol::properties`]; each defence can be taken away ([`Without`]), and
//! then one of them must break: a test says so for each.

use std::collections::BTreeSet;

use lockstep_core::agent::fence::{Token, TokenOrder, compare_token};
use lockstep_core::id::ClusterId;
use stateright::{Model, Property};

/// Drivers that may have the lock.
const DRIVERS: usize = 2;

/// How often the lock changes hands in one run.
const EPOCHS_MAX: u64 = 3;

/// Messages of one driver in one epoch.
const SEQ_MAX: u64 = 3;

/// How often the agent is killed in one run.
const AGENT_KILLS_MAX: u8 = 1;

/// A defence that is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Without {
    /// Nothing is missing.
    Nothing,
    /// A write does not ask whether its writer still has the lock.
    Guard,
    /// An agent takes any token.
    Fence,
    /// The fence is raised in memory only.
    FenceOnDisk,
    /// Tokens are compared by their epoch alone, and an undo leaves no tombstone.
    OrderAndTombstone,
    /// A new driver keeps the epoch of the one before it.
    NewEpoch,
    /// The assignment goes out before its intent is in the journal.
    IntentFirst,
    /// An unwinding leaves out the step whose outcome is unknown.
    UndoOfUnknown,
    /// The agent answers before it has done the work.
    WorkBeforeAnswer,
    /// An executor does its work again without looking whether it is done.
    Convergence,
}

impl Without {
    /// Every defence that there is.
    pub const DEFENCES: [Self; 9] = [
        Self::Guard,
        Self::Fence,
        Self::FenceOnDisk,
        Self::OrderAndTombstone,
        Self::NewEpoch,
        Self::IntentFirst,
        Self::UndoOfUnknown,
        Self::WorkBeforeAnswer,
        Self::Convergence,
    ];
}

/// What the journal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    Begun,
    Done,
    Turned,
    Undone,
    Succeeded,
    RolledBack,
}

/// What is on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Message {
    Do(Stamp),
    Undo(Stamp),
    Ask(Stamp),
    /// The step is done, as the agent's journal says.
    DoneReport,
    UndoneReport,
    /// The agent had not done the step when it answered this question.
    NotDone(Stamp),
}

/// The numbers of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp {
    pub epoch: u64,
    pub seq: u64,
}

impl Stamp {
    fn token(self) -> Token {
        let cluster: ClusterId =
            "cl_01JBQR2KXYZ987654321012345".parse().expect("a constant that is a cluster's id");
        Token { cluster, epoch: self.epoch, seq: self.seq }
    }
}

/// A driver that believes that it has the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Driver {
    pub epoch: u64,
    pub seq: u64,
    /// How much of the journal it has seen: what others append it does not.
    pub seen: usize,
    /// The open intent that it found was asked about, and answered.
    pub knows: bool,
}

/// How far the agent is with the step, by its own journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Standing {
    Unheard,
    Accepted,
    Done,
    /// The tombstone of an undo.
    Undone,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The lock: whose epoch has it.
    pub lock: Option<u64>,
    pub epoch: u64,
    pub journal: Vec<Event>,
    pub drivers: [Option<Driver>; DRIVERS],
    pub network: BTreeSet<Message>,
    /// On the agent's disk, and in its memory.
    pub fence: Option<Stamp>,
    pub fence_in_memory: Option<Stamp>,
    pub standing: Standing,
    /// The reality: whether the step's effect is there, and how often it was made.
    pub applied: bool,
    pub times: u8,
    pub agent_kills: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    Acquire(usize),
    /// A driver freezes longer than its lease lives, or is cut off: it does not know.
    LeaseEnds,
    Kill(usize),
    /// Begins the step: its intent, and the assignment.
    Begin(usize),
    /// Sends the assignment, or the undo, again.
    Send(usize),
    Ask(usize),
    /// Decides to unwind.
    Turn(usize),
    /// Takes in a report, and ends what can be ended.
    Hear(usize, Message),
    End(usize),
    Deliver(Message),
    /// The executor does the work that the agent has accepted.
    Work,
    KillAgent,
    /// The work was done, and not written down.
    KillAgentAfterWork,
    /// The agent forgets the steps of a deployment that has ended.
    Tidy,
}

/// The protocol, with one defence taken away or none.
pub struct Protocol {
    pub without: Without,
}

impl Protocol {
    fn lacks(&self, defence: Without) -> bool {
        self.without == defence
    }

    /// Writes `event` as `driver`, if it still has the lock; else it knows that it was deposed.
    fn append(&self, state: &mut State, driver: usize, event: Event) -> bool {
        let Some(Driver { epoch, .. }) = state.drivers[driver] else { return false };
        if state.lock != Some(epoch) && !self.lacks(Without::Guard) {
            state.drivers[driver] = None;
            return false;
        }
        state.journal.push(event);
        let length = state.journal.len();
        if let Some(driver) = state.drivers[driver].as_mut() {
            driver.seen = length;
        }
        true
    }

    fn stamp(state: &mut State, driver: usize) -> Option<Stamp> {
        let driver = state.drivers[driver].as_mut()?;
        driver.seq += 1;
        Some(Stamp { epoch: driver.epoch, seq: driver.seq })
    }

    /// Whether the agent listens to this token; it is fenced then.
    fn admitted(&self, state: &mut State, stamp: Stamp) -> Option<TokenOrder> {
        let seen = state.fence_in_memory;
        let by_epoch = |seen: Stamp| (stamp.epoch >= seen.epoch).then_some(TokenOrder::Newer);
        let admission = match self.without {
            Without::Fence => Some(TokenOrder::Newer),
            Without::OrderAndTombstone => seen.map_or(Some(TokenOrder::Newer), by_epoch),
            Without::Nothing
            | Without::Guard
            | Without::FenceOnDisk
            | Without::NewEpoch
            | Without::IntentFirst
            | Without::UndoOfUnknown
            | Without::WorkBeforeAnswer
            | Without::Convergence => compare_token(seen.map(Stamp::token).as_ref(), &stamp.token()).ok(),
        };
        if admission.is_some() {
            state.fence_in_memory = seen.max(Some(stamp));
            if !self.lacks(Without::FenceOnDisk) {
                state.fence = state.fence_in_memory;
            }
        }
        admission
    }

    fn deliver(&self, state: &mut State, message: Message) {
        let (Message::Do(stamp) | Message::Undo(stamp) | Message::Ask(stamp)) = message else { return };
        let Some(admission) = self.admitted(state, stamp) else { return };
        match (message, state.standing) {
            // What was tidied away is not begun by its own repetition.
            (Message::Do(_), Standing::Unheard) if admission == TokenOrder::Newer => {
                state.standing = Standing::Accepted;
                if self.lacks(Without::WorkBeforeAnswer) {
                    state.network.insert(Message::DoneReport);
                }
            }
            (Message::Do(_), Standing::Undone) if self.lacks(Without::OrderAndTombstone) => {
                state.standing = Standing::Accepted;
            }
            (Message::Undo(_), Standing::Unheard | Standing::Accepted | Standing::Done) => {
                state.standing = Standing::Undone;
                state.applied = false;
                state.network.insert(Message::UndoneReport);
            }
            (Message::Ask(stamp), Standing::Unheard | Standing::Accepted) => {
                state.network.insert(Message::NotDone(stamp));
            }
            (Message::Do(_) | Message::Ask(_), Standing::Done) => {
                state.network.insert(Message::DoneReport);
            }
            (Message::Undo(_) | Message::Ask(_), Standing::Undone) => {
                state.network.insert(Message::UndoneReport);
            }
            (Message::Do(_), Standing::Unheard | Standing::Accepted | Standing::Undone)
            | (Message::DoneReport | Message::UndoneReport | Message::NotDone(_), _) => {}
        }
    }

    fn hear(&self, state: &mut State, driver: usize, message: Message) {
        let has = |state: &State, event| sees(state, driver, event);
        match message {
            Message::DoneReport if !has(state, Event::Done) && !has(state, Event::Turned) => {
                self.append(state, driver, Event::Done);
            }
            Message::UndoneReport if has(state, Event::Turned) && !has(state, Event::Undone) => {
                self.append(state, driver, Event::Undone);
            }
            Message::NotDone(_) => {
                if let Some(driver) = state.drivers[driver].as_mut() {
                    driver.knows = true;
                }
            }
            Message::DoneReport
            | Message::UndoneReport
            | Message::Do(_)
            | Message::Undo(_)
            | Message::Ask(_) => {}
        }
    }

    /// The executor looks at what is there, and makes it what the step says.
    fn work(&self, state: &mut State) {
        if !state.applied || self.lacks(Without::Convergence) {
            state.applied = true;
            state.times = state.times.saturating_add(1);
        }
    }

    fn begin(&self, state: &mut State, driver: usize) {
        if self.lacks(Without::IntentFirst) {
            // The message is out; the intent may follow, or its writer may die.
            if let Some(stamp) = Self::stamp(state, driver) {
                state.network.insert(Message::Do(stamp));
            }
            return;
        }
        if self.append(state, driver, Event::Begun)
            && let Some(stamp) = Self::stamp(state, driver)
        {
            state.network.insert(Message::Do(stamp));
        }
        if let Some(driver) = state.drivers[driver].as_mut() {
            // What it began itself it need not ask about.
            driver.knows = true;
        }
    }

    fn end(&self, state: &mut State, driver: usize) {
        let event = if sees(state, driver, Event::Turned) { Event::RolledBack } else { Event::Succeeded };
        if self.append(state, driver, event) {
            state.lock = None;
            state.drivers[driver] = None;
        }
    }

    fn driver_actions(&self, state: &State, number: usize, actions: &mut Vec<Action>) {
        let Some(driver) = state.drivers[number] else {
            if state.lock.is_none() && state.epoch < EPOCHS_MAX && !has_ended(state) {
                actions.push(Action::Acquire(number));
            }
            return;
        };
        actions.push(Action::Kill(number));
        let has = |event| sees(state, number, event);
        let may_send = driver.seq < SEQ_MAX;
        let (begun, done, turned) = (has(Event::Begun), has(Event::Done), has(Event::Turned));
        if !begun && !turned && may_send {
            actions.push(Action::Begin(number));
        }
        if !turned && !done {
            // What an operator may want at any time.
            if !begun || driver.knows {
                actions.push(Action::Turn(number));
            }
        }
        if begun && !done && !turned && may_send {
            if driver.knows {
                actions.push(Action::Send(number));
            } else {
                actions.push(Action::Ask(number));
            }
        }
        if turned && begun && !has(Event::Undone) && may_send && !self.lacks(Without::UndoOfUnknown) {
            actions.push(Action::Send(number));
        }
        for message in &state.network {
            let is_answer = match message {
                Message::DoneReport | Message::UndoneReport => true,
                Message::NotDone(stamp) => stamp.epoch == driver.epoch && !driver.knows,
                Message::Do(_) | Message::Undo(_) | Message::Ask(_) => false,
            };
            if is_answer {
                actions.push(Action::Hear(number, *message));
            }
        }
        let is_unwound = has(Event::Undone) || !begun || self.lacks(Without::UndoOfUnknown);
        if (done && !turned) || (turned && is_unwound) {
            actions.push(Action::End(number));
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            lock: None,
            epoch: 0,
            journal: Vec::new(),
            drivers: [None; DRIVERS],
            network: BTreeSet::new(),
            fence: None,
            fence_in_memory: None,
            standing: Standing::Unheard,
            applied: false,
            times: 0,
            agent_kills: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for number in 0..DRIVERS {
            self.driver_actions(state, number, actions);
        }
        if state.lock.is_some() {
            actions.push(Action::LeaseEnds);
        }
        // What is on its way arrives also when the deployment has ended.
        for message in &state.network {
            if let Message::Do(_) | Message::Undo(_) | Message::Ask(_) = message {
                actions.push(Action::Deliver(*message));
            }
        }
        if state.standing == Standing::Accepted {
            actions.push(Action::Work);
        }
        if state.agent_kills < AGENT_KILLS_MAX {
            actions.push(Action::KillAgent);
            if state.standing == Standing::Accepted {
                actions.push(Action::KillAgentAfterWork);
            }
        }
        if has_ended(state) && state.standing != Standing::Unheard {
            actions.push(Action::Tidy);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Acquire(driver) => {
                if !(self.lacks(Without::NewEpoch) && state.epoch > 0) {
                    state.epoch += 1;
                }
                state.lock = Some(state.epoch);
                state.drivers[driver] =
                    Some(Driver { epoch: state.epoch, seq: 0, seen: state.journal.len(), knows: false });
            }
            Action::LeaseEnds => state.lock = None,
            Action::Kill(driver) => state.drivers[driver] = None,
            Action::Begin(driver) => self.begin(&mut state, driver),
            Action::Send(driver) => {
                let is_turned = sees(&state, driver, Event::Turned);
                let stamp = Self::stamp(&mut state, driver)?;
                state.network.insert(if is_turned { Message::Undo(stamp) } else { Message::Do(stamp) });
            }
            Action::Ask(driver) => {
                let stamp = Self::stamp(&mut state, driver)?;
                state.network.insert(Message::Ask(stamp));
            }
            Action::Turn(driver) => {
                self.append(&mut state, driver, Event::Turned);
            }
            Action::Hear(driver, message) => self.hear(&mut state, driver, message),
            Action::End(driver) => self.end(&mut state, driver),
            Action::Deliver(message) => self.deliver(&mut state, message),
            Action::Work => {
                self.work(&mut state);
                state.standing = Standing::Done;
                state.network.insert(Message::DoneReport);
            }
            Action::KillAgent => kill_agent(&mut state),
            Action::KillAgentAfterWork => {
                self.work(&mut state);
                kill_agent(&mut state);
            }
            Action::Tidy => state.standing = Standing::Unheard,
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("a success is there", |_, state: &State| {
                !state.journal.contains(&Event::Succeeded) || state.applied
            }),
            Property::always("what was rolled back is not there, and does not come", |_, state: &State| {
                !state.journal.contains(&Event::RolledBack) || !state.applied
            }),
            Property::always("the step is done once", |_, state: &State| {
                state.times <= 1 || state.journal.contains(&Event::Turned)
            }),
            Property::always("the journal is one story", |_, state: &State| is_one_story(&state.journal)),
            Property::sometimes("it can succeed", |_, state: &State| {
                state.journal.contains(&Event::Succeeded)
            }),
            Property::sometimes("it can be unwound after it was begun", |_, state: &State| {
                state.journal.contains(&Event::RolledBack) && state.journal.contains(&Event::Begun)
            }),
            Property::sometimes("a successor can end what another began", |_, state: &State| {
                state.epoch > 1 && state.journal.contains(&Event::Succeeded)
            }),
        ]
    }
}

fn kill_agent(state: &mut State) {
    state.agent_kills += 1;
    state.fence_in_memory = state.fence;
}

/// Whether the journal has the event, as far as the driver has seen it.
fn sees(state: &State, driver: usize, event: Event) -> bool {
    state.drivers[driver].is_some_and(|driver| state.journal[..driver.seen].contains(&event))
}

fn has_ended(state: &State) -> bool {
    state.journal.iter().any(|event| matches!(event, Event::Succeeded | Event::RolledBack))
}

/// Each event once, nothing done after it turned, and nothing after the end.
fn is_one_story(journal: &[Event]) -> bool {
    let once = journal.iter().collect::<BTreeSet<_>>().len() == journal.len();
    let ends_last =
        journal.iter().rev().skip(1).all(|event| !matches!(event, Event::Succeeded | Event::RolledBack));
    let place = |wanted| journal.iter().position(|event| *event == wanted);
    let done_before_turned = match (place(Event::Done), place(Event::Turned)) {
        (Some(done), Some(turned)) => done < turned,
        (None, _) | (_, None) => true,
    };
    once && ends_last && done_before_turned
}
