//! The keys of the store. A key is [`Free`], or [`Owned`] by an environment. Owned keys are written with the
//! environment's lock, or by one of the transactions of [`super::guarded`].

use std::fmt::{self, Write as _};

use lockstep_core::id::{DeploymentId, HostId, StepId};
use lockstep_core::image::RegistryName;
use lockstep_core::name::{CoordinatorName, EnvironmentKey, HostName, OperatorName};
use lockstep_core::record::owned_names::{OwnedName, SiteName};

const ROOT: &str = "/lockstep/v1";

/// The name of a value: for reading and for guards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// A key that anybody in the coordinator may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Free(Key);

/// A key that belongs to an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned(Key);

/// What keys begin with; it ends with a slash, so that `a/b` is not below `a/bc`'s neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl Key {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the last slash.
    pub fn last(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// All of it but the part after the last slash.
    pub fn parent(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(parent, _)| parent)
    }

    /// For adapters: what was written under this name is read under it.
    pub(in crate::store) fn stored(name: String) -> Self {
        Self(name)
    }
}

impl Prefix {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn covers(&self, key: &Key) -> bool {
        key.0.starts_with(&self.0)
    }

    /// Where a look at all below it begins.
    pub fn first(&self) -> Key {
        Key(self.0.clone())
    }
}

impl Free {
    pub fn key(&self) -> &Key {
        &self.0
    }
}

impl Owned {
    pub fn key(&self) -> &Key {
        &self.0
    }

    /// A key that was read, so that it can be deleted. Keys that are not owned stay what they are.
    pub(crate) fn of_stored(key: &Key) -> Option<Self> {
        const OWNED: [&str; 9] =
            ["env", "deployment", "assignment", "report", "debt", "local", "history", "port", "name"];
        let rest = key.0.strip_prefix(ROOT)?.strip_prefix('/')?;
        let (first, _) = rest.split_once('/')?;
        OWNED.contains(&first).then(|| Self(key.clone()))
    }
}

impl From<Free> for Key {
    fn from(free: Free) -> Key {
        free.0
    }
}

impl From<Owned> for Key {
    fn from(owned: Owned) -> Key {
        owned.0
    }
}

impl From<&Free> for Key {
    fn from(free: &Free) -> Key {
        free.0.clone()
    }
}

impl From<&Owned> for Key {
    fn from(owned: &Owned) -> Key {
        owned.0.clone()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The key of this name; `None` if it is none of ours.
pub fn read(name: &str) -> Option<Key> {
    name.strip_prefix(ROOT)?.starts_with('/').then(|| Key(name.to_owned()))
}

/// Whether what stands under `key` means anything when whoever wrote it is gone: what is bound to a lease does not,
/// and tokens, and lines of progress.
pub fn outlives_its_writer(key: &Key) -> bool {
    let kind = key.0.strip_prefix(ROOT).and_then(|rest| rest.split('/').nth(1)).unwrap_or_default();
    let is_leased = match kind {
        "env" => key.last() == LOCK,
        "host" | "coordinator" => key.last() == PRESENCE,
        _ => false,
    };
    !is_leased && !matches!(kind, "token" | "tail")
}

/// Most names are shorter.
const NAME_USUAL: usize = 128;

/// Names are made at every turn of a driver: into one allocation, and by no more formatting than there must be.
fn named(rest: fmt::Arguments<'_>) -> String {
    let mut name = String::with_capacity(NAME_USUAL);
    name.push_str(ROOT);
    name.push('/');
    name.write_fmt(rest).expect("a string takes everything");
    name
}

fn free(rest: fmt::Arguments<'_>) -> Free {
    Free(Key(named(rest)))
}

fn owned(rest: fmt::Arguments<'_>) -> Owned {
    Owned(Key(named(rest)))
}

fn prefix(rest: fmt::Arguments<'_>) -> Prefix {
    let mut name = named(rest);
    name.push('/');
    Prefix(name)
}

/// Everything that there is.
pub fn all() -> Prefix {
    Prefix(format!("{ROOT}/"))
}

/// The cluster's id.
pub fn meta() -> Free {
    free(format_args!("meta"))
}

// ---- an environment

/// Everything about environments; see [`environment_of`] and [`Key::last`].
pub fn environments() -> Prefix {
    prefix(format_args!("env"))
}

pub fn environment(environment: &EnvironmentKey) -> Prefix {
    prefix(format_args!("env/{environment}"))
}

/// The environment that a key below [`environments`] is about.
pub fn environment_of(key: &Key) -> Option<EnvironmentKey> {
    environment_below("/env/", key)
}

fn environment_below(folder: &str, key: &Key) -> Option<EnvironmentKey> {
    let rest = key.0.strip_prefix(ROOT)?.strip_prefix(folder)?;
    let (environment, _) = rest.rsplit_once('/')?;
    environment.parse().ok()
}

pub fn spec(environment: &EnvironmentKey) -> Owned {
    owned(format_args!("env/{environment}/{SPEC}"))
}

pub fn lock(environment: &EnvironmentKey) -> Owned {
    owned(format_args!("env/{environment}/{LOCK}"))
}

/// The last part of every key of a removal.
pub const REMOVAL: &str = "removal";

/// Present from the decision to remove the environment until the last of its keys is gone.
pub fn removal(environment: &EnvironmentKey) -> Owned {
    owned(format_args!("env/{environment}/{REMOVAL}"))
}

/// Never deleted: an epoch only rises.
pub fn epoch(environment: &EnvironmentKey) -> Owned {
    owned(format_args!("env/{environment}/{EPOCH}"))
}

/// The last part of every key of a declaration.
pub const SPEC: &str = "spec";

/// The last part of every key of a lock.
pub const LOCK: &str = "lock";

/// The last part of every key of an epoch.
pub const EPOCH: &str = "epoch";

/// The last part of every key that says who is there.
pub const PRESENCE: &str = "presence";

/// The last part of every key that says when a host was seen.
pub const SEEN: &str = "seen";

/// The last part of every key of a session that was refused.
pub const SECOND: &str = "second";

/// The last part of [`host_signer`].
pub const SIGNER: &str = "signer";

/// The last part of every key of an `open`.
pub const OPEN: &str = "open";

pub fn open(environment: &EnvironmentKey) -> Owned {
    owned(format_args!("env/{environment}/{OPEN}"))
}

pub const LIVE: &str = "live";

pub fn live(environment: &EnvironmentKey) -> Owned {
    owned(format_args!("env/{environment}/{LIVE}"))
}

pub fn ports(environment: &EnvironmentKey) -> Owned {
    owned(format_args!("env/{environment}/ports"))
}

/// The last part of every key of [`names`].
pub const NAMES: &str = "names";

/// The names that the environment owns on hosts. Never deleted: hosts keep what they have of a removed environment.
pub fn names(environment: &EnvironmentKey) -> Owned {
    owned(format_args!("env/{environment}/{NAMES}"))
}

/// One key for each name that has an owner: the environment.
pub fn owned_name(name: &OwnedName) -> Owned {
    match name {
        OwnedName::Objects(objects) => owned(format_args!("name/objects/{objects}")),
        OwnedName::Volume(volume) => owned(format_args!("name/volume/{volume}")),
        OwnedName::Site(SiteName { load_balancer, port, server_name }) => {
            owned(format_args!("name/site/{load_balancer}/{port}/{server_name}"))
        }
    }
}

/// What the environment may use outside of its containers. Only administrators of all environments write it.
pub fn grant(environment: &EnvironmentKey) -> Owned {
    owned(format_args!("env/{environment}/grant"))
}

/// The histories of all environments.
pub fn histories() -> Prefix {
    prefix(format_args!("history"))
}

/// The summary of each deployment that ever was opened, in the order of time.
pub fn history(environment: &EnvironmentKey) -> Prefix {
    prefix(format_args!("history/{environment}"))
}

/// The environment of an entry of a history.
pub fn environment_of_entry(key: &Key) -> Option<EnvironmentKey> {
    environment_below("/history/", key)
}

pub fn history_entry(environment: &EnvironmentKey, deployment: &DeploymentId) -> Owned {
    owned(format_args!("history/{environment}/{deployment}"))
}

/// One key for each port that is given away on an address.
pub fn port(address: &str, port: u16) -> Owned {
    owned(format_args!("port/{address}/{port}"))
}

pub fn all_ports() -> Prefix {
    prefix(format_args!("port"))
}

pub fn ports_of(address: &str) -> Prefix {
    prefix(format_args!("port/{address}"))
}

// ---- registries

/// What lets hosts into each registry.
pub fn registries() -> Prefix {
    prefix(format_args!("registry"))
}

pub fn registry(registry: &RegistryName) -> Free {
    free(format_args!("registry/{registry}"))
}

// ---- a deployment

pub fn plan(deployment: &DeploymentId) -> Owned {
    owned(format_args!("deployment/{deployment}/plan"))
}

/// The waves of a plan that was kept by wave.
pub fn plan_waves(deployment: &DeploymentId) -> Prefix {
    prefix(format_args!("deployment/{deployment}/plan"))
}

/// A plan that is larger than a value may be is kept in parts. They are written before the deployment is opened, and
/// each attempt to open it has an edition of its own.
pub fn plan_part(deployment: &DeploymentId, edition: &str, part: usize) -> Owned {
    owned(format_args!("deployment/{deployment}/part/{edition}/{part:04}"))
}

pub fn plan_parts(deployment: &DeploymentId, edition: &str) -> Prefix {
    prefix(format_args!("deployment/{deployment}/part/{edition}"))
}

/// Everything about one deployment.
pub fn deployment(deployment: &DeploymentId) -> Prefix {
    prefix(format_args!("deployment/{deployment}"))
}

pub fn summary(deployment: &DeploymentId) -> Owned {
    owned(format_args!("deployment/{deployment}/summary"))
}

pub fn journal(deployment: &DeploymentId) -> Prefix {
    prefix(format_args!("deployment/{deployment}/journal"))
}

pub fn journal_entry(deployment: &DeploymentId, seq: u32) -> Owned {
    owned(format_args!("deployment/{deployment}/journal/{seq:08}"))
}

/// The last line of what runs, one key for each step of a deployment.
pub fn tails(deployment: &DeploymentId) -> Prefix {
    prefix(format_args!("tail/{deployment}"))
}

pub fn tail(deployment: &DeploymentId, step: StepId) -> Free {
    free(format_args!("tail/{deployment}/{step}"))
}

// ---- between driver and session

/// What all hosts are to do.
pub fn all_assignments() -> Prefix {
    prefix(format_args!("assignment"))
}

/// The host that a key below [`all_assignments`] is for.
pub fn assigned_host(key: &Key) -> Option<HostId> {
    let rest = key.0.strip_prefix(ROOT)?.strip_prefix("/assignment/")?;
    rest.split('/').next()?.parse().ok()
}

/// What `host` is to do.
pub fn assignments_to(host: &HostId) -> Prefix {
    prefix(format_args!("assignment/{host}"))
}

pub fn assignments(host: &HostId, environment: &EnvironmentKey) -> Prefix {
    prefix(format_args!("assignment/{host}/{environment}"))
}

pub fn assignment(host: &HostId, environment: &EnvironmentKey, epoch: u64, seq: u64) -> Owned {
    owned(format_args!("assignment/{host}/{environment}/{epoch:010}/{seq:010}"))
}

pub fn reports(environment: &EnvironmentKey) -> Prefix {
    prefix(format_args!("report/{environment}"))
}

pub fn report(environment: &EnvironmentKey, epoch: u64, seq: u64) -> Owned {
    owned(format_args!("report/{environment}/{epoch:010}/{seq:010}"))
}

/// What hosts have not taken back yet.
pub fn all_pending_undos() -> Prefix {
    prefix(format_args!("debt"))
}

/// One value for each host and environment, so that a transaction can be guarded by there being none.
pub fn pending_undos(host: &HostId, environment: &EnvironmentKey) -> Owned {
    owned(format_args!("debt/{host}/{environment}"))
}

/// What was done on hosts without a coordinator.
pub fn all_local_changes() -> Prefix {
    prefix(format_args!("local"))
}

pub fn local_changes(environment: &EnvironmentKey) -> Prefix {
    prefix(format_args!("local/{environment}"))
}

pub fn local_changes_on(environment: &EnvironmentKey, host: &HostId) -> Prefix {
    prefix(format_args!("local/{environment}/{host}"))
}

pub fn local_change(environment: &EnvironmentKey, host: &HostId, seq: u64) -> Owned {
    owned(format_args!("local/{environment}/{host}/{seq:010}"))
}

// ---- everything else

pub fn hosts() -> Prefix {
    prefix(format_args!("host"))
}

pub fn host_spec(host: &HostId) -> Free {
    free(format_args!("host/{host}/spec"))
}

/// Of every host that has joined and was not removed; nothing else is ever written here.
pub fn host_names() -> Prefix {
    prefix(format_args!("host-name"))
}

/// Whose a host's name is: the id of its host.
pub fn host_name(name: &HostName) -> Free {
    free(format_args!("host-name/{name}"))
}

/// When the host was seen, as far as somebody found the time to write it down.
pub fn host_seen(host: &HostId) -> Free {
    free(format_args!("host/{host}/{SEEN}"))
}

/// Which authority signed the certificate that the host showed last, or was given when it joined.
pub fn host_signer(host: &HostId) -> Free {
    free(format_args!("host/{host}/{SIGNER}"))
}

/// Another machine that showed the host's key.
pub fn host_second(host: &HostId) -> Free {
    free(format_args!("host/{host}/{SECOND}"))
}

/// The host that a key below [`hosts`] is about.
pub fn host_of(key: &Key) -> Option<HostId> {
    let rest = key.0.strip_prefix(ROOT)?.strip_prefix("/host/")?;
    let (host, _) = rest.rsplit_once('/')?;
    host.parse().ok()
}

/// Bound to a lease: which coordinator holds the host's session.
pub fn host_presence(host: &HostId) -> Free {
    free(format_args!("host/{host}/{PRESENCE}"))
}

/// Above [`roots`], and nothing else.
pub fn authority() -> Prefix {
    prefix(format_args!("authority"))
}

/// The roots that are trusted; absent until the first rotation.
pub fn roots() -> Free {
    free(format_args!("authority/roots"))
}

pub fn coordinators() -> Prefix {
    prefix(format_args!("coordinator"))
}

pub fn coordinator_spec(name: &CoordinatorName) -> Free {
    free(format_args!("coordinator/{name}/{SPEC}"))
}

/// Bound to a lease: the coordinator is alive.
pub fn coordinator_presence(name: &CoordinatorName) -> Free {
    free(format_args!("coordinator/{name}/{PRESENCE}"))
}

pub fn operators() -> Prefix {
    prefix(format_args!("operator"))
}

pub fn operator(name: &OperatorName) -> Free {
    free(format_args!("operator/{name}"))
}

/// One-time tokens, by their public half.
pub fn join_tokens() -> Prefix {
    prefix(format_args!("token"))
}

pub fn join_token(id: &str) -> Free {
    free(format_args!("token/{id}"))
}

pub fn secrets(environment: &EnvironmentKey) -> Prefix {
    prefix(format_args!("secrets/{environment}"))
}

pub fn all_secrets() -> Prefix {
    prefix(format_args!("secrets"))
}

/// The environment of a version of secrets.
pub fn environment_of_secrets(key: &Key) -> Option<EnvironmentKey> {
    environment_below("/secrets/", key)
}

pub fn secrets_version(environment: &EnvironmentKey, version: u64) -> Free {
    free(format_args!("secrets/{environment}/{version:010}"))
}

pub fn audit() -> Prefix {
    prefix(format_args!("audit"))
}

pub fn audit_record(seq: u64) -> Free {
    free(format_args!("audit/{seq:016}"))
}
