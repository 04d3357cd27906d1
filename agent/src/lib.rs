//! The agent: the service on each host that runs the steps that it is assigned. It never decides what comes next.
//!
//! Modules in reading order: the program itself ([`program`]) and its machine ([`host`]); what was assigned and what
//! became of it ([`journal`]); what runs steps ([`worker`], [`executor`], [`health`]) and with which tools ([`docker`],
//! [`nginx`], [`postgres`], [`probe`], [`printed`]); what root may do here without a coordinator ([`local_rollback`]); and the
//! connection to the coordinators ([`session`]).
#![allow(clippy::result_large_err, reason = "an outcome is made once a step; its size costs nothing")]

use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::info;

pub mod docker;
pub mod executor;
pub mod health;
pub mod host;
pub mod journal;
pub mod local_rollback;
pub mod nginx;
pub mod postgres;
pub mod printed;
pub mod probe;
pub mod program;
pub mod session;
pub mod worker;

use executor::Executors;
use journal::Journal;
use journal::object_names::ObjectNames;
use journal::step_log::StepLogs;
use local_rollback::LocalRollbacks;
use program::directory::Directory;
use program::enroll::RenewalContext;
use program::identity::Identity;
use program::settings::Settings;
use session::coordinators::Coordinators;
use session::images::TransferClient;
use session::{DialSettings, HostTasks, Session, SessionContext};
use worker::{Worker, WorkerContext};

/// Events of steps that the session has not handled yet.
const WORKER_EVENTS_MAX: usize = 32;

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// When something that it needs is missing or damaged.
pub async fn run(directory: Directory, settings: Settings) -> anyhow::Result<()> {
    let identity = Identity::read(&directory)?;
    let (renewed, credential) = watch::channel(program::enroll::credential(&directory)?);
    let (roots_sender, trusted_roots) = watch::channel(String::new());
    let journal = Arc::new(Journal::open(&directory.journal()).await.context("cannot open the journal")?);
    let logs = StepLogs::new(directory.steps());
    journal::reconcile::reconcile(&journal, &logs).await.context("cannot reconcile the journal")?;
    let directory = Arc::new(directory);
    let object_names = ObjectNames::load(&journal).await.context("cannot read the names in the journal")?;
    let executors = Arc::new(Executors::new(&directory, &settings, &identity, object_names.clone()));
    executors.sweep().await;
    info!(host = %identity.host, name = %identity.name, cluster = %identity.cluster, "agent started");

    let (worker_events, received_events) = mpsc::channel(WORKER_EVENTS_MAX);
    let (reports, health) = mpsc::channel(1);
    let coordinators = Coordinators::new(Arc::clone(&directory), identity.clone());
    let known = coordinators.known();
    let instance = session::instance().context("the system provides no random numbers")?;
    let transfer_client = TransferClient { coordinators: known.clone(), credential: credential.clone() };
    let worker_context = WorkerContext {
        journal: Arc::clone(&journal),
        executors: Arc::clone(&executors),
        logs,
        worker_events,
        transfer_client,
    };
    let host_tasks = HostTasks::new(worker_context.clone());
    let local_rollbacks =
        LocalRollbacks::new(Arc::clone(&journal), Arc::clone(&executors), Arc::clone(&directory));
    let session = Session::new(SessionContext {
        cluster: identity.cluster,
        dialling: DialSettings {
            coordinators: known.clone(),
            credential,
            address: identity.address,
            instance,
        },
        coordinators,
        roots: roots_sender,
        worker: Worker::new(worker_context),
        host_tasks,
        journal,
        object_names,
        local_rollbacks,
        worker_events: received_events,
        health,
    });

    let mut tasks = JoinSet::new();
    lockstep_runtime::systemd::ready();
    tasks.spawn(async move { match session.run().await {} });
    tasks.spawn(health::Watch::new(executors, reports).run());
    let renewal = RenewalContext { directory, coordinators: known, trusted_roots, current: renewed };
    tasks.spawn(program::enroll::keep_valid(renewal));
    tokio::select! {
        ended = tasks.join_next() => anyhow::bail!("bug: a part of the agent ended: {ended:?}"),
        signal = stop_signal() => {
            lockstep_runtime::systemd::stopping();
            info!(signal = signal?, "agent stopping; steps that are running resume after the next start");
            Ok(())
        }
    }
}

async fn stop_signal() -> anyhow::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}
