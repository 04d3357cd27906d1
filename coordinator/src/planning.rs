//! Turns a request of an operator into an open deployment. The request is checked, planned, and stored in the
//! transaction that claims the environment. The driver continues from there.

use lockstep_core::access::EnvironmentPattern;
use lockstep_core::id::{DeploymentId, Digest};
use lockstep_core::name::{EnvironmentKey, HostName, OperatorName};
use lockstep_core::plan::operation::{
    AnyBranch, ChangedSite, Deploy, Operation, OperationKind, Refusal, Rollback,
};
use lockstep_core::plan::{Plan, PlanHash};
use lockstep_core::planner;
use lockstep_core::record::Record;
use lockstep_core::record::claim::{Claim, ClaimKind, OperatorRequest};
use lockstep_core::record::grant::{Widening, WideningHash};
use lockstep_core::record::history::{DeploymentSummary, Receipt};
use lockstep_core::record::observed::ImageObservation;
use lockstep_core::spec::EnvironmentSpec;
use lockstep_core::spec::check::{Problem, ValidatedSpec, check, check_declared};
use lockstep_core::time::Timestamp;
use tracing::info;

use crate::context::Context;
use crate::ports::clock::Clock;
use crate::record::absent;
use crate::record::environments;
use crate::record::environments::Versioned;
use crate::record::history;
use crate::record::history::{PlanDocument, Reference, ReferenceError};
use crate::record::pending_undos;
use crate::store::guarded::{self, Accompanying, OwnedWrite};
use crate::store::{Committed, Guard, Store, StoreError, Stored, keys};

pub mod claims;
pub mod grants;
pub mod image_transfer;
pub mod names;
mod planning_input;
mod ports;
mod release;
mod secrets_change;

use claims::ClaimState;
use grants::{Authority, GrantDecision, GrantQuestion, decide_grant};
use names::{NameProposal, propose_names};
use planning_input::{PlanningInput, PlanningTarget, TargetHosts, gather_planning_input};
use ports::Proposal;
use release::find_release;
use secrets_change::secrets_warning;

/// How often a plan is made anew because the record moved under it.
const ATTEMPTS_MAX: usize = 5;

/// What an operator asks for.
#[derive(Debug, Clone)]
pub struct PlanRequest {
    pub environment: EnvironmentKey,
    pub what: RequestedOperation,
}

#[derive(Debug, Clone)]
pub enum RequestedOperation {
    Deploy(Box<DeployRequest>),
    /// To the deployment that is named, else to the newest verified good.
    Rollback {
        to: Option<String>,
        changed_site: ChangedSite,
    },
    AddHost(HostName),
    DrainHost(HostName),
    RemoveHost(HostName),
    /// Only with the hash of its plan.
    Decommission,
}

impl RequestedOperation {
    pub fn kind(&self) -> OperationKind {
        match self {
            Self::Deploy(_) => OperationKind::Deploy,
            Self::Rollback { .. } => OperationKind::Rollback,
            Self::AddHost(_) => OperationKind::AddHost,
            Self::DrainHost(_) => OperationKind::DrainHost,
            Self::RemoveHost(_) => OperationKind::RemoveHost,
            Self::Decommission => OperationKind::Decommission,
        }
    }
}

#[derive(Debug, Clone)]
pub struct DeployRequest {
    pub spec: EnvironmentSpec,
    pub image: String,
    /// Where the image does not say it.
    pub commit: Option<String>,
    pub branch: Option<String>,
    pub any_branch: AnyBranch,
    pub changed_site: ChangedSite,
    /// What `image` is where the command line runs, where it has one of that name.
    pub image_id: Option<Digest>,
    /// The image as the command line has it, to plan with where no app host has it.
    pub offered: Option<ImageObservation>,
}

impl DeployRequest {
    /// An image that a host has, and nothing said beside it.
    pub fn of(spec: EnvironmentSpec, image: String) -> Self {
        Self {
            spec,
            image,
            commit: None,
            branch: None,
            any_branch: AnyBranch::Refused,
            changed_site: ChangedSite::Refused,
            image_id: None,
            offered: None,
        }
    }
}

/// Who asks, and where their command line runs.
#[derive(Debug, Clone)]
pub struct Requester {
    pub operator: OperatorName,
    pub hostname: String,
    pub pid: u32,
    pub authority: Authority,
}

/// A deployment that is to be opened.
#[derive(Debug, Clone)]
pub struct StartRequest {
    pub ask: PlanRequest,
    /// What must still be the plan's hash.
    pub hash: Option<PlanHash>,
    /// The claim for a build that becomes this deployment.
    pub claim: Option<DeploymentId>,
    /// The widening of the grant that an administrator accepts with it.
    pub grant: Option<WideningHash>,
}

impl StartRequest {
    /// What is asked, whatever plan that makes, within what is granted.
    pub fn of(ask: PlanRequest) -> Self {
        Self { ask, hash: None, claim: None, grant: None }
    }
}

/// A plan that was not started.
#[derive(Debug, Clone)]
pub struct Proposed {
    pub plan: Plan,
    /// What an administrator has to grant with it.
    pub widening: Widening,
}

/// Why there is no plan or no deployment.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The requester may not widen the grant of the environment.
    #[error(transparent)]
    NotGranted(Refusal),
    /// No app host has the image: who has it may send it.
    #[error("{}", .0.what)]
    ImageAbsent(Refusal),
    #[error("{environment} is locked by {}", .open.by)]
    Locked { environment: EnvironmentKey, open: Box<Claim> },
    #[error("cannot find the deployment")]
    Unresolved(#[from] ReferenceError),
    #[error("cannot read or write the record")]
    Store(#[from] StoreError),
    #[error("cannot read the secrets")]
    Secrets(#[source] anyhow::Error),
}

impl From<planner::PlanRefusal> for DeployError {
    fn from(planner::PlanRefusal { what, why, next }: planner::PlanRefusal) -> Self {
        Self::Refused(Refusal { what, why, next })
    }
}

/// A plan with what its start must find unchanged.
struct PlannedDeployment {
    plan: Plan,
    input: PlanningInput,
    names: NameProposal,
    grant: GrantDecision,
    spec: ValidatedSpec,
    spec_seen: Option<Stored>,
}

/// The plan for `ask` as things are, without any effect.
///
/// # Errors
/// When there is none.
pub async fn plan(
    context: &Context,
    ask: &PlanRequest,
    requester: &Requester,
) -> Result<Proposed, DeployError> {
    claims::refuse_removal(&*context.store, &ask.environment).await?;
    let open = environments::open(&*context.store, &ask.environment).await?.map(|seen| seen.content);
    refuse_while_open(&ask.environment, open.as_ref())?;
    let recorded = environments::spec(&*context.store, &ask.environment).await?;
    let mut planned = make_plan(context, ask, (requester, None), recorded).await?;
    let now = context.clock.now();
    planned.plan.warnings.extend(open.and_then(|open| locked_until(&ask.environment, &open, now)));
    Ok(Proposed { plan: planned.plan, widening: planned.grant.widening })
}

/// While a deployment is open, what hosts report is between two releases: no plan can be made from it.
fn refuse_while_open(environment: &EnvironmentKey, open: Option<&Claim>) -> Result<(), DeployError> {
    match open {
        Some(open @ Claim { kind: ClaimKind::Running { .. } | ClaimKind::Stuck { .. }, .. }) => {
            Err(DeployError::Locked { environment: environment.clone(), open: Box::new(open.clone()) })
        }
        Some(Claim { kind: ClaimKind::Building { .. } | ClaimKind::Freeze { .. }, .. }) | None => Ok(()),
    }
}

/// What a plan says of a lock that does not hinder it, but its start.
fn locked_until(environment: &EnvironmentKey, open: &Claim, now: Timestamp) -> Option<String> {
    let Claim { kind, by, until, .. } = open;
    if now >= *until {
        return None;
    }
    match kind {
        ClaimKind::Freeze { reason } => Some(format!(
            "{environment} is frozen by {by} until {until} ({reason}): it is deployed to after that, or after `lockstep lock thaw {environment}`"
        )),
        ClaimKind::Building { .. } => {
            Some(format!("{environment} is locked: {by} builds an image for it, until {until} at most"))
        }
        ClaimKind::Running { .. } | ClaimKind::Stuck { .. } => None,
    }
}

/// Opens a deployment.
///
/// # Errors
/// When there is no plan, or it is another than the one asked for, or the environment is owned.
pub async fn start(
    context: &Context,
    start: &StartRequest,
    requester: &Requester,
) -> Result<(DeploymentId, Plan), DeployError> {
    let store = &*context.store;
    for _ in 0..ATTEMPTS_MAX {
        let now = context.clock.now();
        // Before it is looked who owns the environment: a deployment that is opened after that writes the declaration
        // anew, so that this very one guards against all that such a deployment leaves behind, debts too.
        let recorded = environments::spec(store, &start.ask.environment).await?;
        let before =
            claims::claimable(store, &start.ask.environment, start.claim.as_ref(), requester, now).await?;
        let planned = make_plan(context, &start.ask, (requester, start.grant.as_ref()), recorded).await?;
        planned.grant.refuse_widening(&planned.plan)?;
        refuse_changed_plan(start.hash.as_ref(), &planned.plan)?;
        let ports = &planned.input.ports;
        if ports.are_too_many() {
            let seen = planned.input.ports_seen.as_ref();
            give_ports(store, &start.ask.environment, ports, seen).await?;
            continue;
        }
        let id = start.claim.clone().unwrap_or_else(|| new_id(&*context.clock));
        let kind = ClaimKind::Running { deployment: id.clone(), request: OperatorRequest::None };
        let open = claims::open(kind, requester, now, before.as_ref(), &planned.spec);
        let kept = PlanDocument::of_plan(&id, &planned.plan, &context.clock.ulid().to_string());
        for parts_of_plan in &kept.ahead {
            guarded::plan_parts(store, parts_of_plan.clone()).await?;
        }
        let with = accompanying(&id, &planned, &open, kept.with_claim);
        let seen = before.as_ref().map(|seen| &seen.stored);
        match claims::settle_unknown(store, &start.ask.environment, seen, &open, with).await? {
            ClaimState::Yes => {
                info!(deployment = %id, environment = %start.ask.environment, operator = %requester.operator, "deployment opened");
                return Ok((id, planned.plan));
            }
            ClaimState::Moved => delete_plan_parts(store, kept.ahead).await?,
        }
    }
    Err(DeployError::Refused(Refusal {
        what: format!("cannot claim {}", start.ask.environment),
        why: format!("its record changed {ATTEMPTS_MAX} times while the plan was made"),
        next: "try again".to_owned(),
    }))
}

/// Gives all of the ports away that a plan for many hosts needs, so many in each transaction, and none where somebody
/// else has changed them meanwhile. They are the environment's also when nothing comes of the deployment.
async fn give_ports(
    store: &dyn Store,
    environment: &EnvironmentKey,
    proposal: &Proposal,
    seen: Option<&Stored>,
) -> Result<(), StoreError> {
    let mut guard = Guard::as_seen(keys::ports(environment), seen);
    for some in proposal.split() {
        let mut with = some.transaction(environment);
        with.guards.push(guard);
        match guarded::give_away(store, environment, with).await {
            Ok(Committed::Yes { revision }) => {
                guard = Guard::Unchanged(keys::ports(environment).into(), revision);
            }
            // What is there is looked at again, and a plan made from that.
            Ok(Committed::No) | Err(StoreError::Unknown(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes the parts of a plan that was not opened.
async fn delete_plan_parts(store: &dyn Store, ahead: Vec<Vec<OwnedWrite>>) -> Result<(), StoreError> {
    for writes in ahead {
        let deletions = writes.iter().map(OwnedWrite::undone).collect();
        guarded::plan_parts(store, deletions).await?;
    }
    Ok(())
}

pub(crate) fn new_id(clock: &dyn Clock) -> DeploymentId {
    format!("dep_{}", clock.ulid()).parse().expect("a ULID in its text form makes a deployment's id")
}

async fn make_plan(
    context: &Context,
    ask: &PlanRequest,
    (requester, accepted): (&Requester, Option<&WideningHash>),
    recorded: Option<Versioned<EnvironmentSpec>>,
) -> Result<PlannedDeployment, DeployError> {
    let spec_seen = recorded.as_ref().map(|seen| seen.stored.clone());
    let (spec, wanted) = match &ask.what {
        RequestedOperation::Deploy(deploy) => {
            refuse_coordinator_paths(&deploy.spec)?;
            let spec = declared(deploy.spec.clone(), &ask.environment)?;
            (spec, PlanningTarget { image: Some(deploy.image.clone()), on: TargetHosts::Declared })
        }
        RequestedOperation::Rollback { .. } | RequestedOperation::Decommission => (
            recorded_spec(context, recorded, &ask.environment).await?,
            PlanningTarget { image: None, on: TargetHosts::Live },
        ),
        RequestedOperation::AddHost(host) => (
            recorded_spec(context, recorded, &ask.environment).await?,
            PlanningTarget { image: None, on: TargetHosts::Coming(host.clone()) },
        ),
        RequestedOperation::DrainHost(host) => (
            recorded_spec(context, recorded, &ask.environment).await?,
            PlanningTarget { image: None, on: TargetHosts::Going(host.clone()) },
        ),
        RequestedOperation::RemoveHost(host) => (
            recorded_spec(context, recorded, &ask.environment).await?,
            PlanningTarget { image: None, on: TargetHosts::Leaving(host.clone()) },
        ),
    };
    let question =
        GrantQuestion { key: &ask.environment, what: &ask.what, spec: spec.get(), accepted, requester };
    let grant = decide_grant(&*context.store, &question).await?;
    let input = gather_planning_input(context, &spec, &wanted, requester.authority).await?;
    let operation = operation(context, ask, &spec, &input.record).await?;
    let mut plan = planner::plan(&operation, &spec, &input.record)?;
    plan.warnings.extend(input.port_warnings.iter().cloned());
    plan.warnings.extend(secrets_warning(&*context.secrets, &plan, input.record.live.as_ref()).await);
    plan.warnings.extend(image_to_send(ask, &input.record));
    plan.warnings.extend(reader_warning(requester.authority, &spec));
    if let Some(refusal) = pending_undos::refuse_plan(&*context.store, &plan).await? {
        return Err(refusal.into());
    }
    let spec = match plan.operation.host() {
        None => spec,
        Some(_) => {
            let hosts = plan.spec.hosts.clone();
            checked(EnvironmentSpec { hosts, ..spec.get().clone() }, &ask.environment)?
        }
    };
    grant.refuse_revoked(&plan)?;
    let names = propose_names(context, &plan, &input.record).await?;
    plan.warnings.extend(names.warning());
    Ok(PlannedDeployment { plan, input, names, grant, spec, spec_seen })
}

/// Nothing that an operator declares is a path on the coordinator's machine.
fn refuse_coordinator_paths(spec: &EnvironmentSpec) -> Result<(), Refusal> {
    let Some(key) = spec.deploy.coordinator_paths().next() else { return Ok(()) };
    Err(Refusal {
        what: format!("{key} cannot be declared"),
        why: "it names a path on the coordinator's machine".to_owned(),
        next: "remove it from deployment.yml; an administrator sets [export] in coordinator.toml".to_owned(),
    })
}

/// What a plan says that was made for somebody who may only read.
fn reader_warning(authority: Authority, spec: &EnvironmentSpec) -> Option<String> {
    let unasked = match spec.database {
        Some(_) => "no registry was asked, and no database: the schema is the one that was recorded last",
        None => "no registry was asked",
    };
    (authority == Authority::Reader).then(|| format!("made for a reader: {unasked}"))
}

/// What a plan says of an image that no app host has.
fn image_to_send(ask: &PlanRequest, record: &Record) -> Option<String> {
    let RequestedOperation::Deploy(deploy) = &ask.what else { return None };
    let offered =
        deploy.offered.as_ref().filter(|_| record.observed.values().all(|seen| seen.image.is_none()))?;
    let mib = offered.size_bytes.div_ceil(1024 * 1024);
    Some(format!(
        "no app host has {}: lockstep deploy first sends it to one from this machine ({mib} MiB)",
        deploy.image
    ))
}

/// The declaration, if nothing is wrong with it.
pub(crate) fn checked(spec: EnvironmentSpec, environment: &EnvironmentKey) -> Result<ValidatedSpec, Refusal> {
    refuse_other_key(&spec, environment)?;
    check(spec).map_err(|problems| invalid(environment, &problems))
}

/// The declaration of a deployment, if nothing is wrong with it.
pub(crate) fn declared(
    spec: EnvironmentSpec,
    environment: &EnvironmentKey,
) -> Result<ValidatedSpec, Refusal> {
    refuse_other_key(&spec, environment)?;
    check_declared(spec).map_err(|problems| invalid(environment, &problems))
}

fn refuse_other_key(spec: &EnvironmentSpec, environment: &EnvironmentKey) -> Result<(), Refusal> {
    if spec.key == *environment {
        return Ok(());
    }
    Err(Refusal {
        what: format!("the declaration is for {}", spec.key),
        why: format!("the command names {environment}"),
        next: "name an environment that deployment.yml declares".to_owned(),
    })
}

fn invalid(environment: &EnvironmentKey, problems: &[Problem]) -> Refusal {
    Refusal {
        what: format!("the declaration of {environment} is invalid"),
        why: problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        next: format!("lockstep env check {environment}    # once deployment.yml is corrected"),
    }
}

async fn recorded_spec(
    context: &Context,
    recorded: Option<Versioned<EnvironmentSpec>>,
    environment: &EnvironmentKey,
) -> Result<ValidatedSpec, DeployError> {
    let Some(seen) = recorded else {
        let first = format!("lockstep deploy {environment} --image IMAGE");
        return Err(absent::refusal(&*context.store, environment, first).await?.into());
    };
    Ok(checked(seen.content, environment)?)
}

async fn operation(
    context: &Context,
    ask: &PlanRequest,
    spec: &EnvironmentSpec,
    record: &Record,
) -> Result<Operation, DeployError> {
    Ok(match &ask.what {
        RequestedOperation::Rollback { to, changed_site } => {
            let to = match to {
                None => None,
                Some(text) => {
                    let environment = Some(ask.environment.clone());
                    let visible = EnvironmentPattern::One(ask.environment.clone());
                    let reference = Reference { text: text.clone(), environment, visible };
                    Some(history::resolve(&*context.store, &reference).await?)
                }
            };
            Operation::Rollback(Rollback { to, changed_site: *changed_site })
        }
        RequestedOperation::AddHost(host) => Operation::AddHost(host.clone()),
        RequestedOperation::DrainHost(host) => Operation::DrainHost(host.clone()),
        RequestedOperation::RemoveHost(host) => Operation::RemoveHost(host.clone()),
        RequestedOperation::Decommission => Operation::Decommission,
        RequestedOperation::Deploy(deploy) => Operation::Deploy(Deploy {
            release: find_release(deploy, spec, record)?,
            branch: deploy.branch.clone(),
            any_branch: deploy.any_branch,
            changed_site: deploy.changed_site,
        }),
    })
}

fn refuse_changed_plan(wanted: Option<&PlanHash>, plan: &Plan) -> Result<(), Refusal> {
    let moved = wanted.map(|wanted| wanted.moved(&plan.hash)).unwrap_or_default();
    if moved.is_empty() {
        return Ok(());
    }
    Err(Refusal {
        what: "the plan has changed since it was shown".to_owned(),
        why: format!("what changed: {}", moved.join("; ")),
        next: format!("{}    # review it again: its hash is {}", command_that_shows(plan), plan.hash),
    })
}

/// The command that shows such a plan, and runs nothing.
fn command_that_shows(plan: &Plan) -> String {
    let key = &plan.key;
    match &plan.operation {
        Operation::Deploy(_) => format!("lockstep plan {key} --image {}", plan.release.image),
        Operation::Rollback(Rollback { to: None, .. }) => format!("lockstep rollback {key} --dry-run"),
        Operation::Rollback(Rollback { to: Some(to), .. }) => {
            format!("lockstep rollback {key} --to {to} --dry-run")
        }
        Operation::AddHost(host) => format!("lockstep host add {key} {host} --dry-run"),
        Operation::DrainHost(host) => format!("lockstep host drain {key} {host} --dry-run"),
        Operation::RemoveHost(host) => format!("lockstep host remove {key} {host} --dry-run"),
        Operation::Decommission => format!("lockstep env decommission {key}"),
    }
}

/// What is written with the claim: the plan, the deployment, the declaration, the ports, the names and the grant.
fn accompanying(
    id: &DeploymentId,
    planned: &PlannedDeployment,
    open: &Claim,
    kept: OwnedWrite,
) -> Accompanying {
    let PlannedDeployment { plan, input, names, grant, spec, spec_seen } = planned;
    let key = &plan.key;
    let Accompanying { mut guards, mut writes } = input.ports.transaction(key);
    for with in [names.transaction(key), grant.transaction(key)] {
        guards.extend(with.guards);
        writes.extend(with.writes);
    }
    guards.push(Guard::as_seen(keys::ports(key), input.ports_seen.as_ref()));
    guards.push(Guard::as_seen(keys::spec(key), spec_seen.as_ref()));
    writes.push(kept);
    writes.extend(history::summary_writes(&new_summary(id, plan, open)));
    writes.push(OwnedWrite::put(keys::spec(key), spec.get()));
    Accompanying { guards, writes }
}

/// What is recorded of a deployment when it is opened.
fn new_summary(id: &DeploymentId, plan: &Plan, open: &Claim) -> DeploymentSummary {
    DeploymentSummary {
        id: id.clone(),
        key: plan.key.clone(),
        kind: plan.kind,
        operator: open.by.clone(),
        release: plan.release.clone(),
        slot: plan.slot,
        spec: plan.spec.clone(),
        serving: plan.serving.clone(),
        excluded: plan.excluded.clone(),
        secrets_version: plan.secrets_version,
        schema_before: plan.schema_before,
        schema_after: None,
        opened_at: open.since,
        ended_at: None,
        verdict: None,
        failure: None,
        steps: Vec::new(),
        receipt: Receipt::default(),
    }
}

/// Until when a claim that begins at `since` holds.
pub(crate) fn until(since: Timestamp, spec: &ValidatedSpec) -> Timestamp {
    since + spec.get().deploy.lock_timeout
}
