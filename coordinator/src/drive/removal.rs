//! Removes an environment from the record.
//!
//! What must stay true: one guarded transaction decides, and only if nothing is live or an operator abandons it. From
//! then on the removal itself is recorded, nothing can be opened, and `status` shows the removal. The rest is deleted
//! in bounded transactions that can be repeated, and the declaration last. So a second `env remove` finishes a removal
//! that a crash interrupted. History, epoch, audit entries, secrets and the name of its objects stay.

use lockstep_core::count::counted;
use lockstep_core::name::{EnvironmentKey, OperatorName};
use lockstep_core::plan::operation::Refusal;
use lockstep_core::record::claim::{Claim, ClaimKind};
use lockstep_core::record::pending_undo::PendingUndos;
use lockstep_core::record::removal::Removal;

use crate::context::Context;
use crate::drive::lock::Lock;
use crate::record::absent;
use crate::record::environments::{self, Versioned};
use crate::store::guarded::{Held, OwnedWrite};
use crate::store::{Committed, Guard, OPERATIONS_MAX, Owned, Store, StoreError, keys};

mod remnants;

use remnants::Remnants;

/// The most keys that one transaction deletes: its guards count as well.
const DELETIONS_MAX: usize = OPERATIONS_MAX - 10;

/// What becomes of a removal while something of the environment serves, or may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhileServing {
    Refused,
    /// `--abandon`: what runs goes on, and nothing manages it.
    Abandoned,
}

/// Why an environment is not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    #[error(transparent)]
    Absent(Refusal),
    #[error(transparent)]
    Refused(Refusal),
    #[error("another coordinator works on {0}")]
    Locked(EnvironmentKey),
    #[error("{0} changed while it was being removed")]
    Changed(EnvironmentKey),
    #[error("cannot remove {0}")]
    Store(EnvironmentKey, #[source] StoreError),
}

/// What was forgotten, and what was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    pub removal: Removal,
    pub ports: usize,
    pub pending_undos: usize,
    /// Versions of its secrets, which stay.
    pub secrets: usize,
}

/// Removes the declaration, the live release, the ports and the pending undos of an environment.
///
/// # Errors
/// When it serves and is not abandoned, when it is open, or when another coordinator works on it.
pub async fn remove(
    context: &Context,
    environment: &EnvironmentKey,
    by: &OperatorName,
    while_serving: WhileServing,
) -> Result<Removed, RemoveError> {
    let removing = Removing { context, environment, by, while_serving };
    // A deployment has the lock: it is named before the lock is waited for.
    let is_decided = removing.decided().await?.is_some();
    if !is_decided {
        removing.refuse_open(removing.open().await?.as_ref())?;
    }
    let store = &*context.store;
    let Some(mut lock) = environments::locked(store, environment, &context.coordinator).await else {
        return Err(RemoveError::Locked(environment.clone()));
    };
    let removed = removing.under_lock(&lock).await;
    lock.release(store).await;
    removed
}

struct Removing<'a> {
    context: &'a Context,
    environment: &'a EnvironmentKey,
    by: &'a OperatorName,
    while_serving: WhileServing,
}

impl Removing<'_> {
    fn failed(&self, error: StoreError) -> RemoveError {
        RemoveError::Store(self.environment.clone(), error)
    }

    fn held<'l>(&self, lock: &'l Lock) -> Result<&'l Held, RemoveError> {
        lock.held().ok_or_else(|| RemoveError::Locked(self.environment.clone()))
    }

    async fn decided(&self) -> Result<Option<Removal>, RemoveError> {
        let seen = environments::removal(&*self.context.store, self.environment).await;
        Ok(seen.map_err(|error| self.failed(error))?.map(|seen| seen.content))
    }

    async fn open(&self) -> Result<Option<Versioned<Claim>>, RemoveError> {
        environments::open(&*self.context.store, self.environment).await.map_err(|error| self.failed(error))
    }

    async fn under_lock(&self, lock: &Lock) -> Result<Removed, RemoveError> {
        let removal = match self.decided().await? {
            Some(removal) => removal,
            None => self.decide(lock).await?,
        };
        let forgotten = self.forget(lock).await.map_err(|error| self.failed(error))?;
        let Some((ports, pending_undos)) = forgotten else {
            return Err(RemoveError::Changed(self.environment.clone()));
        };
        let secrets = self.context.store.list(&keys::secrets(self.environment)).await;
        let secrets = secrets.map_err(|error| self.failed(error))?.len();
        Ok(Removed { removal, ports, pending_undos, secrets })
    }

    /// Looks at the record and at the hosts, and records the removal if nothing forbids it. The lock keeps drivers
    /// out meanwhile, and the guards see a deployment that is opened.
    async fn decide(&self, lock: &Lock) -> Result<Removal, RemoveError> {
        let Self { context, environment, .. } = self;
        let store = &*context.store;
        let open = self.open().await?;
        self.refuse_open(open.as_ref())?;
        let remnants = Remnants::find(context, environment).await.map_err(|error| self.failed(error))?;
        let Some(remnants) = remnants else {
            let refusal = absent::refusal(store, environment, absent::LIST.to_owned()).await;
            return Err(RemoveError::Absent(refusal.map_err(|error| self.failed(error))?));
        };
        if self.while_serving == WhileServing::Refused
            && let Some(refusal) = remnants.refusal(environment)
        {
            return Err(RemoveError::Refused(refusal));
        }
        let removal =
            Removal { by: self.by.clone(), since: context.clock.now(), left_behind: remnants.left_behind() };
        let mut guards = remnants.guards(environment);
        guards.push(Guard::as_seen(keys::open(environment), open.as_ref().map(|open| &open.stored)));
        guards.push(Guard::absent(keys::removal(environment)));
        let mut writes = vec![OwnedWrite::put(keys::removal(environment), &removal)];
        // What owned it has run out.
        writes.extend(open.map(|_| OwnedWrite::delete(keys::open(environment))));
        let committed = self.held(lock)?.commit(store, guards, writes).await;
        match committed.map_err(|error| self.failed(error))? {
            Committed::Yes { .. } => Ok(removal),
            Committed::No => Err(RemoveError::Changed((*environment).clone())),
        }
    }

    fn refuse_open(&self, open: Option<&Versioned<Claim>>) -> Result<(), RemoveError> {
        let Some(Versioned { content: open, .. }) = open else { return Ok(()) };
        let environment = self.environment;
        let Claim { kind, by, since, until, .. } = open;
        let has_run_out = self.context.clock.now() >= *until;
        let (why, next) = match kind {
            ClaimKind::Building { .. } | ClaimKind::Freeze { .. } if has_run_out => return Ok(()),
            ClaimKind::Building { deployment } => (
                format!("{by} has been building an image for {deployment} since {since}"),
                format!("lockstep cancel {environment}"),
            ),
            ClaimKind::Running { deployment, .. } => (
                format!("{deployment} by {by} has been running since {since}"),
                format!("lockstep cancel {environment}"),
            ),
            ClaimKind::Stuck { deployment } => (
                format!("{deployment} by {by} has been stuck since {since}"),
                format!("lockstep status {environment}"),
            ),
            ClaimKind::Freeze { reason } => {
                (format!("{by} froze it at {since}: {reason}"), format!("lockstep lock thaw {environment}"))
            }
        };
        let what = format!("{environment} is not removed");
        Err(RemoveError::Refused(Refusal { what, why, next }))
    }

    /// Deletes everything that is of the environment, the declaration and the removal itself last. Gives how many
    /// ports and pending undos there were; `None` if the lock was lost.
    async fn forget(&self, lock: &Lock) -> Result<Option<(usize, usize)>, StoreError> {
        let Self { context, environment, .. } = self;
        let store = &*context.store;
        let Some(held) = lock.held() else { return Ok(None) };
        let ports = port_keys(store, environment).await?;
        let (undos, pending_undos) = undo_keys(store, environment).await?;
        let number = ports.len();
        let removal = environments::removal(store, environment).await?;
        let guard = Guard::as_seen(keys::removal(environment), removal.as_ref().map(|seen| &seen.stored));
        let many: Vec<OwnedWrite> = ports.into_iter().chain(undos).map(OwnedWrite::delete).collect();
        let last = [keys::spec, keys::live, keys::ports, keys::grant, keys::removal];
        let mut last: Vec<OwnedWrite> = last.map(|key| OwnedWrite::delete(key(environment))).into();
        // In one transaction: a name that is owned and not recorded would be owned for ever.
        if let Some(names) = environments::names(store, environment).await? {
            let used = names.content.each().into_iter().filter(|name| !name.is_of_objects());
            last.extend(used.map(|name| OwnedWrite::delete(keys::owned_name(&name))));
            last.push(OwnedWrite::put(keys::names(environment), &names.content.of_removed()));
        }
        for some in many.chunks(DELETIONS_MAX).chain([last.as_slice()]) {
            // Many transactions may take longer than a lease lives.
            lock.keep(store).await;
            if held.commit(store, vec![guard.clone()], some.to_vec()).await? == Committed::No {
                return Ok(None);
            }
        }
        Ok(Some((number, pending_undos)))
    }
}

/// The keys of every port that the environment has, also of hosts that its table does not name any more.
async fn port_keys(store: &dyn Store, environment: &EnvironmentKey) -> Result<Vec<Owned>, StoreError> {
    let name = environment.to_string();
    let taken = store.list(&keys::all_ports()).await?;
    let own = taken.iter().filter(|stored| stored.value == name.as_bytes());
    Ok(own.filter_map(|stored| Owned::of_stored(&stored.key)).collect())
}

/// The keys of what hosts have still to undo for the environment, and how many undos these are.
async fn undo_keys(
    store: &dyn Store,
    environment: &EnvironmentKey,
) -> Result<(Vec<Owned>, usize), StoreError> {
    let (mut own, mut number) = (Vec::new(), 0);
    for stored in store.list(&keys::all_pending_undos()).await? {
        let PendingUndos { undos } = stored.read()?;
        if undos.iter().any(|undo| undo.environment == *environment) {
            number += undos.len();
            own.extend(Owned::of_stored(&stored.key));
        }
    }
    Ok((own, number))
}

impl Removed {
    /// What was forgotten and what goes on, for people and for the audit.
    pub fn receipt(&self, environment: &EnvironmentKey) -> String {
        let Self { removal, ports, pending_undos, secrets } = self;
        let mut forgotten = vec!["declaration".to_owned(), counted(*ports, "port")];
        if *pending_undos > 0 {
            forgotten.push(counted(*pending_undos, "pending undo"));
        }
        let mut stay = "its history and its audit entries".to_owned();
        if *secrets > 0 {
            stay = format!("{stay}, and {} of its secrets", counted(*secrets, "version"));
        }
        let left = remnants::describe_leftovers(&removal.left_behind);
        format!("{environment} is removed: its {} are deleted; {stay} stay. {left}", forgotten.join(", "))
    }
}
