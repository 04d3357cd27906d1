//! Changes of the claim on an environment: claims for a build, requests of operators to an open deployment, and
//! freezes.
//!
//! Every change is one transaction that is guarded by the claim itself. So of two concurrent changes, one sees the
//! other.

use std::time::Duration;

use lockstep_core::id::DeploymentId;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::operation::Refusal;
use lockstep_core::record::claim::{Claim, ClaimKind, OperatorRequest, Resolution};
use lockstep_core::run::engine::{Phase, Run, refuse_resolution};
use lockstep_core::run::journal::Verdict;
use lockstep_core::spec::EnvironmentSpec;
use lockstep_core::spec::check::ValidatedSpec;
use lockstep_core::time::{Millis, Timestamp};
use lockstep_proto::trace::traceparent;
use tracing::Span;

use super::{DeployError, Requester, declared, new_id, until};
use crate::context::Context;
use crate::record::environments;
use crate::record::environments::Versioned;
use crate::record::history;
use crate::store::guarded::{Accompanying, claim, disclaim};
use crate::store::{Committed, Store, StoreError, Stored, keys};

/// How long an operator waits to hear what came of a cancellation: a driver looks at each change at once.
const CANCEL_ANSWER_LIMIT: Millis = Millis::from_secs(5);

/// How often the journal is looked at without a wake-up.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often a transaction of unknown outcome is sent again.
const SENDINGS_MAX: usize = 5;

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClaimState {
    Yes,
    /// Something that it was made from is another meanwhile.
    Moved,
}

/// Claims the environment for a build by the command line.
///
/// # Errors
/// When it is owned already, or the declaration is not right.
pub async fn claim_for_build(
    context: &Context,
    spec: EnvironmentSpec,
    requester: &Requester,
) -> Result<DeploymentId, DeployError> {
    let environment = spec.key.clone();
    let spec = declared(spec, &environment)?;
    let now = context.clock.now();
    let before = claimable(&*context.store, &environment, None, requester, now).await?;
    let id = new_id(&*context.clock);
    let open = open(ClaimKind::Building { deployment: id.clone() }, requester, now, None, &spec);
    own_claim(context, &environment, before.as_ref(), &open).await?;
    Ok(id)
}

/// Ends a claim whose build failed.
///
/// # Errors
/// When the deployment is not a claim for a build.
pub async fn unclaim(
    context: &Context,
    environment: &EnvironmentKey,
    deployment: &DeploymentId,
) -> Result<(), DeployError> {
    let seen = environments::open(&*context.store, environment).await?;
    match seen {
        Some(seen) if seen.content.kind == (ClaimKind::Building { deployment: deployment.clone() }) => {
            end(context, environment, &seen.stored).await
        }
        Some(_) | None => Err(DeployError::Refused(Refusal {
            what: format!("{deployment} is not a build"),
            why: "it is a running deployment, or it has ended".to_owned(),
            next: format!("lockstep status {}", environment.environment),
        })),
    }
}

/// Requests that a deployment is reverted. A claim for a build ends at once.
///
/// # Errors
/// When nothing of that id is open.
pub async fn cancel(
    context: &Context,
    environment: &EnvironmentKey,
    deployment: &DeploymentId,
    requester: &Requester,
) -> Result<String, DeployError> {
    let seen = opened_as(context, environment, deployment).await?;
    let by = requester.operator.clone();
    match &seen.content.kind {
        ClaimKind::Building { .. } => {
            end(context, environment, &seen.stored).await?;
            Ok(format!("the claim of {environment} for a build is released"))
        }
        ClaimKind::Stuck { .. } => Err(DeployError::Refused(Refusal {
            what: format!("{deployment} is stuck, so it cannot be cancelled"),
            why: "it is already being reverted, and an undo failed several times".to_owned(),
            next: format!("choose a resolution: lockstep status {}", environment.environment),
        })),
        ClaimKind::Running { .. } | ClaimKind::Freeze { .. } => {
            let open = &seen.content;
            if run_of(context, open, deployment).await?.is_some_and(|run| run.is_committed()) {
                return Err(too_late(environment, deployment).into());
            }
            request(context, (environment, deployment), &seen, OperatorRequest::Cancel { by }).await?;
            cancelled(context, (environment, deployment), open).await
        }
    }
}

/// Then nothing is reverted any more.
fn too_late(environment: &EnvironmentKey, deployment: &DeploymentId) -> Refusal {
    Refusal {
        what: format!("{deployment} is live already, so it cannot be cancelled"),
        why: "only its clean-up is left, and nothing is reverted any more".to_owned(),
        next: format!("lockstep rollback {environment}    # once it has ended"),
    }
}

/// What came of a cancellation: its driver may just have made the release live.
async fn cancelled(
    context: &Context,
    (environment, deployment): (&EnvironmentKey, &DeploymentId),
    open: &Claim,
) -> Result<String, DeployError> {
    let mut wakeups = context.store.watch(&keys::deployment(deployment));
    let until = context.clock.now() + CANCEL_ANSWER_LIMIT;
    while context.clock.now() < until {
        let run = run_of(context, open, deployment).await?;
        match run.as_ref().map(Run::phase) {
            Some(
                Phase::Reverting { .. } | Phase::Stuck { .. } | Phase::Ended { verdict: Verdict::RolledBack },
            ) => return Ok(format!("{deployment} is being reverted")),
            Some(Phase::Ended { verdict: Verdict::Succeeded }) => {
                return Err(too_late(environment, deployment).into());
            }
            Some(Phase::Forward) if run.as_ref().is_some_and(Run::is_committed) => {
                return Err(too_late(environment, deployment).into());
            }
            Some(Phase::Forward) | None => {}
        }
        tokio::select! {
            () = wakeups.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    Ok(format!("the cancellation of {deployment} is recorded; no coordinator has acted on it yet"))
}

/// The run of an open deployment, as far as its journal tells; `None` if it cannot be read.
async fn run_of(
    context: &Context,
    open: &Claim,
    deployment: &DeploymentId,
) -> Result<Option<Run>, StoreError> {
    let store = &*context.store;
    let (plan, entries) =
        tokio::try_join!(history::plan(store, deployment), history::journal(store, deployment))?;
    Ok(plan.and_then(|plan| Run::replay(plan, open.until, &entries).ok()))
}

/// Requests a resolution of a stuck deployment.
///
/// # Errors
/// When it is not stuck, or the way would break a rule.
pub async fn resolve(
    context: &Context,
    stuck: (&EnvironmentKey, &DeploymentId),
    way: Resolution,
    requester: &Requester,
) -> Result<String, DeployError> {
    let (environment, deployment) = stuck;
    let seen = opened_as(context, environment, deployment).await?;
    match &seen.content.kind {
        ClaimKind::Stuck { .. } => {
            refuse_breaking(context, &seen.content, deployment, way).await?;
            request(context, (environment, deployment), &seen, way.requested_by(requester.operator.clone()))
                .await?;
            Ok(match way {
                Resolution::Retry => format!("{deployment} retries its undo"),
                Resolution::Unwind => {
                    format!("{deployment} undoes the other steps; the failed undo stays pending")
                }
                Resolution::Skip { step } => format!("{deployment} continues without the undo of {step}"),
            })
        }
        ClaimKind::Building { .. } | ClaimKind::Running { .. } | ClaimKind::Freeze { .. } => {
            Err(DeployError::Refused(Refusal {
                what: format!("{deployment} is not stuck"),
                why: "only a deployment with a failed undo needs a resolution".to_owned(),
                next: format!("lockstep watch {deployment}"),
            }))
        }
    }
}

/// Refuses what the driver would refuse: a stuck deployment gets no entry before a resolution is chosen.
async fn refuse_breaking(
    context: &Context,
    open: &Claim,
    deployment: &DeploymentId,
    way: Resolution,
) -> Result<(), DeployError> {
    let run = run_of(context, open, deployment).await?;
    let refused =
        run.map_or_else(|| Some("cannot read its journal".to_owned()), |run| refuse_resolution(&run, way));
    let Some(rule) = refused else { return Ok(()) };
    let what = match way {
        Resolution::Retry => format!("{deployment} cannot retry its undo"),
        Resolution::Unwind => format!("the other steps of {deployment} cannot be undone first"),
        Resolution::Skip { step } => format!("the undo of {step} cannot be skipped"),
    };
    Err(DeployError::Refused(Refusal {
        what,
        why: rule,
        next: format!("repair the cause of the failed undo, then: lockstep resolve {deployment} --retry"),
    }))
}

/// Freezes the environment: deployments are refused, for `reason`.
///
/// # Errors
/// When it is owned already.
pub async fn freeze(
    context: &Context,
    environment: &EnvironmentKey,
    reason: String,
    until: Timestamp,
    requester: &Requester,
) -> Result<(), DeployError> {
    let now = context.clock.now();
    if until <= now {
        return Err(DeployError::Refused(Refusal {
            what: format!("the freeze of {environment} would end before it begins"),
            why: format!("it would end at {until}, and the time is {now}"),
            next: format!("lockstep lock freeze {} --for 2h", environment.environment),
        }));
    }
    let before = claimable(&*context.store, environment, None, requester, now).await?;
    let open = Claim {
        kind: ClaimKind::Freeze { reason },
        by: requester.operator.clone(),
        since: now,
        until,
        hostname: requester.hostname.clone(),
        pid: requester.pid,
        traceparent: traceparent(&Span::current()),
    };
    own_claim(context, environment, before.as_ref(), &open).await
}

/// Ends a freeze.
///
/// # Errors
/// When there is none.
pub async fn thaw(context: &Context, environment: &EnvironmentKey) -> Result<(), DeployError> {
    match environments::open(&*context.store, environment).await? {
        Some(Versioned { stored, content: Claim { kind: ClaimKind::Freeze { .. }, .. } }) => {
            end(context, environment, &stored).await
        }
        Some(seen) => {
            Err(DeployError::Locked { environment: environment.clone(), open: Box::new(seen.content) })
        }
        None => Err(DeployError::Refused(Refusal {
            what: format!("{environment} is not frozen"),
            why: "nothing holds its lock".to_owned(),
            next: format!("lockstep status {}", environment.environment),
        })),
    }
}

/// The claim that a new one may replace: none, an expired one, or the requester's own claim for a build.
pub(super) async fn claimable(
    store: &dyn Store,
    environment: &EnvironmentKey,
    own_claim: Option<&DeploymentId>,
    requester: &Requester,
    now: Timestamp,
) -> Result<Option<Versioned<Claim>>, DeployError> {
    refuse_removal(store, environment).await?;
    let seen = environments::open(store, environment).await?;
    let Some(open) = seen.as_ref().map(|seen| &seen.content) else {
        return match own_claim {
            None => Ok(None),
            Some(claim) => Err(DeployError::Refused(claim_lost(environment, claim))),
        };
    };
    let may_be_replaced = match (&open.kind, own_claim) {
        (ClaimKind::Building { deployment }, Some(claim)) => {
            deployment == claim && open.by == requester.operator
        }
        (ClaimKind::Building { .. } | ClaimKind::Freeze { .. }, None) => now >= open.until,
        (ClaimKind::Running { .. } | ClaimKind::Stuck { .. }, _) | (ClaimKind::Freeze { .. }, Some(_)) => {
            false
        }
    };
    if may_be_replaced {
        Ok(seen)
    } else {
        Err(DeployError::Locked { environment: environment.clone(), open: Box::new(open.clone()) })
    }
}

/// Refuses what would be opened in an environment that is being removed.
pub(super) async fn refuse_removal(
    store: &dyn Store,
    environment: &EnvironmentKey,
) -> Result<(), DeployError> {
    let Some(Versioned { content: removal, .. }) = environments::removal(store, environment).await? else {
        return Ok(());
    };
    Err(DeployError::Refused(Refusal {
        what: format!("{environment} is being removed"),
        why: format!(
            "{} began to remove it at {}, and the removal is not finished",
            removal.by, removal.since
        ),
        next: format!("lockstep env remove {environment}"),
    }))
}

fn claim_lost(environment: &EnvironmentKey, claim: &DeploymentId) -> Refusal {
    Refusal {
        what: format!("the claim {claim} of {environment} has ended"),
        why: "the build took longer than lock_timeout, or an operator cancelled it".to_owned(),
        next: format!(
            "deploy again (the image is already built): lockstep deploy {}",
            environment.environment
        ),
    }
}

/// The claim that `kind` makes. One that follows a claim for a build keeps its times: a deployment never
/// owns its environment for longer than its lock's time-out.
pub(super) fn open(
    kind: ClaimKind,
    requester: &Requester,
    now: Timestamp,
    before: Option<&Versioned<Claim>>,
    spec: &ValidatedSpec,
) -> Claim {
    let building = before
        .filter(|seen| matches!(seen.content.kind, ClaimKind::Building { .. }) && now < seen.content.until);
    let since = building.map_or(now, |seen| seen.content.since);
    Claim {
        kind,
        by: requester.operator.clone(),
        since,
        until: building.map_or_else(|| until(since, spec), |seen| seen.content.until),
        hostname: requester.hostname.clone(),
        pid: requester.pid,
        traceparent: traceparent(&Span::current()),
    }
}

/// Sends the claim until its outcome is known.
pub(super) async fn settle_unknown(
    store: &dyn Store,
    environment: &EnvironmentKey,
    seen: Option<&Stored>,
    open: &Claim,
    with: Accompanying,
) -> Result<ClaimState, StoreError> {
    let Accompanying { guards, writes } = with;
    for attempt in 1.. {
        let with = Accompanying { guards: guards.clone(), writes: writes.clone() };
        match claim(store, environment, seen, open, with).await {
            Ok(Committed::Yes { .. }) => return Ok(ClaimState::Yes),
            Ok(Committed::No) => {
                // An earlier sending of unknown outcome may have been the one.
                let there = environments::open(store, environment).await?;
                let is_mine = there.is_some_and(|there| there.content == *open);
                return Ok(if is_mine { ClaimState::Yes } else { ClaimState::Moved });
            }
            Err(StoreError::Unknown(_)) if attempt < SENDINGS_MAX => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ClaimState::Moved)
}

async fn own_claim(
    context: &Context,
    environment: &EnvironmentKey,
    before: Option<&Versioned<Claim>>,
    open: &Claim,
) -> Result<(), DeployError> {
    let seen = before.map(|seen| &seen.stored);
    match settle_unknown(&*context.store, environment, seen, open, Accompanying::default()).await? {
        ClaimState::Yes => Ok(()),
        ClaimState::Moved => Err(claim_changed(context, environment).await?),
    }
}

/// Records what an operator requests of an open deployment. Its driver sees it in the claim.
async fn request(
    context: &Context,
    (environment, deployment): (&EnvironmentKey, &DeploymentId),
    seen: &Versioned<Claim>,
    request: OperatorRequest,
) -> Result<(), DeployError> {
    let kind = ClaimKind::Running { deployment: deployment.clone(), request };
    own_claim(context, environment, Some(seen), &Claim { kind, ..seen.content.clone() }).await
}

async fn end(context: &Context, environment: &EnvironmentKey, seen: &Stored) -> Result<(), DeployError> {
    match disclaim(&*context.store, environment, seen).await? {
        Committed::Yes { .. } => Ok(()),
        Committed::No => Err(claim_changed(context, environment).await?),
    }
}

/// The error for a change that came too late.
async fn claim_changed(context: &Context, environment: &EnvironmentKey) -> Result<DeployError, StoreError> {
    Ok(match environments::open(&*context.store, environment).await? {
        Some(seen) => DeployError::Locked { environment: environment.clone(), open: Box::new(seen.content) },
        None => DeployError::Refused(Refusal {
            what: format!("the operation that locked {environment} has just ended"),
            why: "it ended during this command".to_owned(),
            next: format!("lockstep status {}", environment.environment),
        }),
    })
}

async fn opened_as(
    context: &Context,
    environment: &EnvironmentKey,
    deployment: &DeploymentId,
) -> Result<Versioned<Claim>, DeployError> {
    let seen = environments::open_of(&*context.store, environment, deployment).await?;
    seen.ok_or_else(|| {
        DeployError::Refused(Refusal {
            what: format!("{deployment} is not open"),
            why: "it has ended".to_owned(),
            next: format!("lockstep show {deployment}"),
        })
    })
}
