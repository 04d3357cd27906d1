//! Streams a deployment: its plan, its journal from any entry on, the output of its steps, and its end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use lockstep_core::id::{DeploymentId, StepId};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::claim::ClaimKind;
use lockstep_proto::wire::{self, Document, watch_event::Event};
use tonic::Status;
use tonic::codegen::BoxStream;

use super::convert::deployment;
use super::failure::store_status;
use super::{Caller, ControlApi};
use crate::record::{environments, history, tails};
use crate::store::{Store, StoreError, Wakeups, keys};

/// How often the record is looked at without a wake-up: a wake-up is only a hint.
const LOOK_EVERY: Duration = Duration::from_secs(2);

pub(super) async fn watch(
    api: &ControlApi,
    caller: &Caller,
    request: wire::WatchRequest,
) -> Result<BoxStream<wire::WatchEvent>, Status> {
    let (id, environment) = deployment(api, caller, request.deployment).await?;
    let store = api.context.store.clone();
    let watching = WatchStream {
        wakeups: (store.watch(&keys::deployment(&id)), store.watch(&keys::tails(&id))),
        store,
        id,
        environment,
        after_seq: request.after_seq,
        tails: BTreeMap::new(),
        ready: VecDeque::new(),
        stage: Stage::Plan,
    };
    Ok(Box::pin(stream::unfold(watching, WatchStream::next)))
}

struct WatchStream {
    store: Arc<dyn Store>,
    wakeups: (Wakeups, Wakeups),
    id: DeploymentId,
    environment: EnvironmentKey,
    after_seq: u32,
    tails: BTreeMap<StepId, String>,
    ready: VecDeque<Event>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The plan goes first.
    Plan,
    Journal,
    Over,
}

impl WatchStream {
    async fn next(mut self) -> Option<(Result<wire::WatchEvent, Status>, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((Ok(wire::WatchEvent { event: Some(event) }), self));
            }
            if self.stage == Stage::Over {
                return None;
            }
            if let Err(error) = self.catch_up().await {
                self.stage = Stage::Over;
                return Some((Err(store_status(&error)), self));
            }
            if self.ready.is_empty() && self.stage != Stage::Over {
                tokio::select! {
                    () = self.wakeups.0.changed() => {}
                    () = self.wakeups.1.changed() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
        }
    }

    /// What was done without a coordinator was never planned, and has ended.
    async fn end_without_plan(&mut self) -> Result<(), StoreError> {
        if let Some(summary) = history::summary(&*self.store, &self.id).await? {
            self.ready.push_back(Event::Summary(Document::of_content(&summary)));
            self.stage = Stage::Over;
        }
        Ok(())
    }

    async fn catch_up(&mut self) -> Result<(), StoreError> {
        if self.stage == Stage::Plan {
            // A claim for a build has no plan yet.
            let Some(plan) = history::plan(&*self.store, &self.id).await? else {
                return self.end_without_plan().await;
            };
            self.ready.push_back(Event::Plan(Document::of_content(&plan)));
            self.stage = Stage::Journal;
        }
        // Both before the journal: what has ended, or waits for an operator, has its last entry.
        let open = environments::open(&*self.store, &self.environment).await?;
        let is_stuck =
            open.is_some_and(|open| open.content.kind == ClaimKind::Stuck { deployment: self.id.clone() });
        let summary = history::summary(&*self.store, &self.id).await?;
        for entry in history::journal_after(&*self.store, &self.id, self.after_seq).await? {
            self.after_seq = entry.seq;
            self.ready.push_back(Event::Entry(Document::of_content(&entry)));
        }
        for (step, line) in tails::of_deployment(&*self.store, &self.id).await? {
            if self.tails.get(&step) != Some(&line) {
                self.tails.insert(step, line.clone());
                self.ready.push_back(Event::Progress(wire::WatchProgress { step: step.0.into(), line }));
            }
        }
        if let Some(summary) = summary.filter(|summary| is_stuck || summary.verdict.is_some()) {
            self.ready.push_back(Event::Summary(Document::of_content(&summary)));
            self.stage = Stage::Over;
        }
        Ok(())
    }
}
