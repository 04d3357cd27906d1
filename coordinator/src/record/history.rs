//! The record of deployments: plan, journal and summary. It also resolves references to deployments, and knows the
//! usual duration of steps.

use std::collections::BTreeMap;

use bytes::Bytes;
use lockstep_core::access::EnvironmentPattern;
use lockstep_core::id::DeploymentId;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::Plan;
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::run::journal::Entry;
use lockstep_core::stored::{StoredDocument, Unreadable, decode, encode};
use lockstep_core::time::Millis;
use serde::{Deserialize, Serialize};

use crate::record::environments;
use crate::store::guarded::OwnedWrite;
use crate::store::{Key, Store, StoreError, TRANSACTION_BYTES_MAX, VALUE_BYTES_MAX, keys};

/// How many entries of a journal are read at once.
const ENTRIES_AT_ONCE: usize = 500;

/// How many deployments a planner sees.
pub const HISTORY_FOR_PLANS: usize = 50;

/// How many ended deployments the usual times are taken from.
const USUAL_FROM: usize = 10;

pub async fn summary(store: &dyn Store, id: &DeploymentId) -> Result<Option<DeploymentSummary>, StoreError> {
    let stored = store.get(keys::summary(id).key()).await?;
    stored.map(|stored| stored.read()).transpose()
}

/// Stands where a plan would, when that is larger than a value may be. Public so that a test can hold a later version
/// to what is kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanParts {
    edition: String,
}

impl StoredDocument for PlanParts {
    const KIND: &'static str = "plan_parts";
}

/// The plan, put together when it is kept in parts.
pub async fn plan(store: &dyn Store, id: &DeploymentId) -> Result<Option<Plan>, StoreError> {
    let Some(there) = store.get(keys::plan(id).key()).await? else {
        return Ok(None);
    };
    let mut plan: Plan = match there.read() {
        Err(StoreError::Unreadable { source: Unreadable::OtherKind { found, .. }, .. })
            if found == PlanParts::KIND =>
        {
            return plan_of_parts(store, id, &there.read()?).await.map(Some);
        }
        whole => whole?,
    };
    if plan.waves.is_empty() {
        for wave in store.list(&keys::plan_waves(id)).await? {
            plan.waves.push(wave.read()?);
        }
    }
    Ok(Some(plan))
}

async fn plan_of_parts(store: &dyn Store, id: &DeploymentId, kept: &PlanParts) -> Result<Plan, StoreError> {
    let context = store.list(&keys::plan_parts(id, &kept.edition)).await?;
    let whole: Vec<u8> = context.iter().flat_map(|part| part.value.iter().copied()).collect();
    decode(&whole).map_err(|source| StoreError::Unreadable { key: keys::plan(id).key().clone(), source })
}

/// A plan as it is kept.
pub struct PlanDocument {
    /// Transactions that come before the one that opens the deployment; none where the plan fits into that.
    pub ahead: Vec<Vec<OwnedWrite>>,
    /// What belongs into that one.
    pub with_claim: OwnedWrite,
}

impl PlanDocument {
    /// Whole, or in parts when it is larger than a value may be. No other attempt to open `id` has `edition`.
    pub fn of_plan(id: &DeploymentId, plan: &Plan, edition: &str) -> Self {
        let whole = encode(plan);
        if whole.len() <= VALUE_BYTES_MAX {
            return Self { ahead: Vec::new(), with_claim: OwnedWrite::put_bytes(keys::plan(id), whole) };
        }
        let part = |(number, bytes): (usize, &[u8])| {
            OwnedWrite::put_bytes(keys::plan_part(id, edition, number), bytes.to_vec())
        };
        let context: Vec<OwnedWrite> = whole.chunks(VALUE_BYTES_MAX).enumerate().map(part).collect();
        let kept = PlanParts { edition: edition.to_owned() };
        Self {
            ahead: context.chunks(TRANSACTION_BYTES_MAX / VALUE_BYTES_MAX).map(<[_]>::to_vec).collect(),
            with_claim: OwnedWrite::put(keys::plan(id), &kept),
        }
    }
}

pub async fn journal(store: &dyn Store, id: &DeploymentId) -> Result<Vec<Entry>, StoreError> {
    let stored = store.list(&keys::journal(id)).await?;
    stored.iter().map(|entry| entry.read()).collect()
}

/// What the journal has after the entry `after`.
pub async fn journal_after(
    store: &dyn Store,
    id: &DeploymentId,
    after: u32,
) -> Result<Vec<Entry>, StoreError> {
    let prefix = keys::journal(id);
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let last = entries.last().map_or(after, |entry| entry.seq);
        let page = store.page(&prefix, keys::journal_entry(id, last + 1).key(), ENTRIES_AT_ONCE).await?;
        let is_last = page.len() < ENTRIES_AT_ONCE;
        for entry in page {
            entries.push(entry.read()?);
        }
        if is_last {
            return Ok(entries);
        }
    }
}

/// The newest `limit` deployments of an environment, newest first; one that is open is among them.
pub async fn recent(
    store: &dyn Store,
    environment: &EnvironmentKey,
    limit: usize,
) -> Result<Vec<DeploymentSummary>, StoreError> {
    // Ids are ULIDs: their order is the order of time.
    let newest = store.last(&keys::history(environment), limit).await?;
    newest.iter().map(|stored| stored.read()).collect()
}

/// The writes that keep a summary: under its deployment, and in its environment's history.
pub fn summary_writes(summary: &DeploymentSummary) -> [OwnedWrite; 2] {
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
) -> Result<Vec<DeploymentSummary>, StoreError> {
    let mut summaries = recent(store, environment, limit + 1).await?;
    summaries.retain(|summary| summary.verdict.is_some());
    summaries.truncate(limit);
    Ok(summaries)
}

/// How many deployments [`Past`] reads at first: what is live, what a rollback goes to and what failed between them.
const NEWEST: usize = 4;

/// The newest deployments of an environment that have ended, read as far as somebody asks: most questions are answered
/// by the first few of a planner's [`HISTORY_FOR_PLANS`].
pub struct Past<'a> {
    store: &'a dyn Store,
    environment: &'a EnvironmentKey,
    read: Vec<DeploymentSummary>,
    extent: Extent,
}

/// How much of a past is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Nothing,
    Newest,
    All,
}

impl<'a> Past<'a> {
    pub fn of(store: &'a dyn Store, environment: &'a EnvironmentKey) -> Self {
        Self { store, environment, read: Vec::new(), extent: Extent::Nothing }
    }

    /// What is read so far, newest first.
    pub fn read(&self) -> &[DeploymentSummary] {
        &self.read
    }

    /// What `decide` finds in as many of the newest as it needs. What it finds in some of them it must find in more of
    /// them too; `None` if it finds nothing in all of them.
    ///
    /// # Errors
    /// When the store does not answer, or holds what cannot be read.
    pub async fn find<T>(
        &mut self,
        decide: impl Fn(&[DeploymentSummary]) -> Option<T> + Send,
    ) -> Result<Option<T>, StoreError> {
        loop {
            if let Some(found) = decide(&self.read) {
                return Ok(Some(found));
            }
            match self.extent {
                Extent::Nothing => {
                    let newest = recent(self.store, self.environment, NEWEST).await?;
                    self.extent = if newest.len() < NEWEST { Extent::All } else { Extent::Newest };
                    self.read = newest;
                    self.read.retain(|summary| summary.verdict.is_some());
                }
                Extent::Newest => {
                    self.read = ended(self.store, self.environment, HISTORY_FOR_PLANS).await?;
                    self.extent = Extent::All;
                }
                Extent::All => return Ok(None),
            }
        }
    }
}

/// How long each kind of step took of late: the median of its last times.
pub fn usual_durations(newest_first: &[DeploymentSummary]) -> BTreeMap<String, Millis> {
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
    /// The environments whose deployments a prefix can name: those that the caller may see.
    pub visible: EnvironmentPattern,
}

/// Why a reference names no deployment.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    #[error("{text} needs an environment")]
    NoEnvironment { text: String },
    #[error("no deployment is open in {0}")]
    NoneOpen(EnvironmentKey),
    #[error("nothing has been deployed to {0}")]
    NoneEver(EnvironmentKey),
    #[error("there is no deployment {text}")]
    Unknown { text: String },
    #[error("{text} can be {first} or {second}")]
    Ambiguous { text: String, first: String, second: String },
    #[error("cannot look up deployments")]
    Store(#[from] StoreError),
}

/// The deployment that is meant.
///
/// # Errors
/// When it is none, or could be several.
pub async fn resolve(store: &dyn Store, reference: &Reference) -> Result<DeploymentId, ReferenceError> {
    let text = reference.text.trim();
    let environment = || {
        reference.environment.as_ref().ok_or_else(|| ReferenceError::NoEnvironment { text: text.to_owned() })
    };
    match text {
        "@open" => {
            let environment = environment()?;
            let open = environments::open(store, environment).await?;
            open.and_then(|open| open.content.deployment().cloned())
                .ok_or_else(|| ReferenceError::NoneOpen(environment.clone()))
        }
        "@last" | "" => {
            let environment = environment()?;
            let newest = recent(store, environment, 1).await?;
            newest
                .into_iter()
                .next()
                .map(|summary| summary.id)
                .ok_or_else(|| ReferenceError::NoneEver(environment.clone()))
        }
        prefix => by_prefix(store, prefix, reference).await,
    }
}

async fn by_prefix(
    store: &dyn Store,
    text: &str,
    reference: &Reference,
) -> Result<DeploymentId, ReferenceError> {
    if let Ok(id) = text.parse() {
        return match summary(store, &id).await? {
            Some(_) => Ok(id),
            None => Err(ReferenceError::Unknown { text: text.to_owned() }),
        };
    }
    let Reference { environment, visible, .. } = reference;
    let is_visible = |key: &Key| keys::environment_of_entry(key).is_some_and(|of| visible.covers(&of));
    let prefix = match environment {
        Some(environment) => keys::history(environment),
        None => keys::histories(),
    };
    let mut found: Vec<String> = Vec::new();
    for stored in store.list(&prefix).await?.iter().filter(|stored| is_visible(&stored.key)) {
        let id = stored.key.last();
        if id.starts_with(text) || id.strip_prefix("dep_").is_some_and(|ulid| ulid.starts_with(text)) {
            found.push(id.to_owned());
        }
    }
    match found.as_slice() {
        [] => Err(ReferenceError::Unknown { text: text.to_owned() }),
        [only] => only.parse().map_err(|_| ReferenceError::Unknown { text: text.to_owned() }),
        [first, second, ..] => Err(ReferenceError::Ambiguous {
            text: text.to_owned(),
            first: first.clone(),
            second: second.clone(),
        }),
    }
}
