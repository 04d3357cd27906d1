//! What is recorded of deployments: plan, journal, summary; which one is meant; how long steps take.

use std::collections::BTreeMap;

use bytes::Bytes;
use lockstep_core::id::DeploymentId;
use lockstep_core::journal::Entry;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::Plan;
use lockstep_core::record::Summary;
use lockstep_core::stored::encode;
use lockstep_core::time::Millis;

use crate::environments;
use crate::store::guarded::OwnedWrite;
use crate::store::{Store, StoreError, VALUE_BYTES_MAX, keys};

/// How many deployments a planner sees.
pub const HISTORY_FOR_PLANS: usize = 50;

/// How many ended deployments the usual times are taken from.
const USUAL_FROM: usize = 10;

pub async fn summary(store: &dyn Store, id: &DeploymentId) -> Result<Option<Summary>, StoreError> {
    let stored = store.get(keys::summary(id).key()).await?;
    stored.map(|stored| stored.read()).transpose()
}

/// The plan, put together when it is kept by wave.
pub async fn plan(store: &dyn Store, id: &DeploymentId) -> Result<Option<Plan>, StoreError> {
    let Some(head) = store.get(keys::plan(id).key()).await? else {
        return Ok(None);
    };
    let mut plan: Plan = head.read()?;
    for wave in store.list(&keys::plan_waves(id)).await? {
        plan.waves.push(wave.read()?);
    }
    Ok(Some(plan))
}

/// The writes that keep a plan: whole, or by wave when it is larger than a value may be.
pub fn plan_writes(id: &DeploymentId, plan: &Plan) -> Vec<OwnedWrite> {
    let whole = encode(plan);
    if whole.len() <= VALUE_BYTES_MAX {
        return vec![OwnedWrite::put_bytes(keys::plan(id), whole)];
    }
    let head = Plan { waves: Vec::new(), ..plan.clone() };
    let mut writes = vec![OwnedWrite::put(keys::plan(id), &head)];
    for (number, wave) in plan.waves.iter().enumerate() {
        writes.push(OwnedWrite::put(keys::plan_wave(id, number), wave));
    }
    writes
}

pub async fn journal(store: &dyn Store, id: &DeploymentId) -> Result<Vec<Entry>, StoreError> {
    let stored = store.list(&keys::journal(id)).await?;
    stored.iter().map(|entry| entry.read()).collect()
}

/// The newest `limit` deployments of an environment, newest first; one that is open is among them.
pub async fn recent(
    store: &dyn Store,
    environment: &EnvironmentKey,
    limit: usize,
) -> Result<Vec<Summary>, StoreError> {
    // Ids are ULIDs: their order is the order of time.
    let newest = store.last(&keys::history(environment), limit).await?;
    newest.iter().map(|stored| stored.read()).collect()
}

/// The writes that keep a summary: under its deployment, and in its environment's history.
pub fn summary_writes(summary: &Summary) -> [OwnedWrite; 2] {
    let bytes = Bytes::from(encode(summary));
    [
        OwnedWrite::put_bytes(keys::summary(&summary.id), bytes.clone()),
        OwnedWrite::put_bytes(keys::history_entry(&summary.key, &summary.id), bytes),
    ]
}

/// The newest `limit` that have ended.
pub async fn ended(
    store: &dyn Store,
    environment: &EnvironmentKey,
    limit: usize,
) -> Result<Vec<Summary>, StoreError> {
    let mut summaries = recent(store, environment, limit + 1).await?;
    summaries.retain(|summary| summary.verdict.is_some());
    summaries.truncate(limit);
    Ok(summaries)
}

/// How long each kind of step took of late: the median of its last times.
pub fn usual(newest_first: &[Summary]) -> BTreeMap<String, Millis> {
    let mut times: BTreeMap<String, Vec<Millis>> = BTreeMap::new();
    for step in newest_first.iter().take(USUAL_FROM).flat_map(|summary| &summary.steps) {
        times.entry(step.name.clone()).or_default().push(step.took);
    }
    times
        .into_iter()
        .map(|(name, mut times)| {
            times.sort_unstable();
            let median = times[times.len() / 2];
            (name, median)
        })
        .collect()
}

/// How an operator names a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// An id, a unique prefix, `@open` or `@last`.
    pub text: String,
    /// For `@open` and `@last`; also narrows a prefix.
    pub environment: Option<EnvironmentKey>,
}

/// Why a reference names no deployment.
#[derive(Debug, thiserror::Error)]
pub enum Unresolved {
    #[error("{text} needs an environment beside it")]
    NoEnvironment { text: String },
    #[error("no deployment is open in {0}")]
    NoneOpen(EnvironmentKey),
    #[error("nothing has been deployed to {0}")]
    NoneEver(EnvironmentKey),
    #[error("there is no deployment {text}")]
    Unknown { text: String },
    #[error("{text} could be {first} or {second}")]
    Ambiguous { text: String, first: String, second: String },
    #[error("cannot look deployments up")]
    Store(#[from] StoreError),
}

/// The deployment that is meant.
///
/// # Errors
/// When it is none, or could be several.
pub async fn resolve(store: &dyn Store, reference: &Reference) -> Result<DeploymentId, Unresolved> {
    let text = reference.text.trim();
    let environment =
        || reference.environment.as_ref().ok_or_else(|| Unresolved::NoEnvironment { text: text.to_owned() });
    match text {
        "@open" => {
            let environment = environment()?;
            let open = environments::open(store, environment).await?;
            open.and_then(|open| open.content.deployment().cloned())
                .ok_or_else(|| Unresolved::NoneOpen(environment.clone()))
        }
        "@last" | "" => {
            let environment = environment()?;
            let newest = recent(store, environment, 1).await?;
            newest
                .into_iter()
                .next()
                .map(|summary| summary.id)
                .ok_or_else(|| Unresolved::NoneEver(environment.clone()))
        }
        prefix => by_prefix(store, prefix, reference.environment.as_ref()).await,
    }
}

async fn by_prefix(
    store: &dyn Store,
    text: &str,
    environment: Option<&EnvironmentKey>,
) -> Result<DeploymentId, Unresolved> {
    if let Ok(id) = text.parse() {
        return match summary(store, &id).await? {
            Some(_) => Ok(id),
            None => Err(Unresolved::Unknown { text: text.to_owned() }),
        };
    }
    let prefix = match environment {
        Some(environment) => keys::history(environment),
        None => keys::histories(),
    };
    let mut found: Vec<String> = Vec::new();
    for stored in store.list(&prefix).await? {
        let id = stored.key.last();
        if id.starts_with(text) || id.strip_prefix("dep_").is_some_and(|ulid| ulid.starts_with(text)) {
            found.push(id.to_owned());
        }
    }
    match found.as_slice() {
        [] => Err(Unresolved::Unknown { text: text.to_owned() }),
        [only] => only.parse().map_err(|_| Unresolved::Unknown { text: text.to_owned() }),
        [first, second, ..] => {
            Err(Unresolved::Ambiguous { text: text.to_owned(), first: first.clone(), second: second.clone() })
        }
    }
}
