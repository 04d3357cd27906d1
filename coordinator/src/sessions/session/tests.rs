//! What a host gets, and what is kept of what it says.

use std::collections::BTreeMap;

use lockstep_core::agent::fence::Token;
use lockstep_core::id::Digest;
use lockstep_core::plan::action::{DatabaseRef, PresentImage, TakeSnapshot};
use lockstep_core::run::journal::Direction;
use lockstep_core::secret::Secret;
use lockstep_core::time::{Millis, Timestamp};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::identity::authority::Authority;
use crate::identity::certificate::IssuingName;
use crate::ports::clock::{Clock, SystemClock};
use crate::record::refusals::Refusals;
use crate::record::vault::{SecretsSource, Vault};
use crate::sessions::images::Images;
use crate::sessions::presence::PresenceKeeper;
use crate::sessions::revocation::Cut;
use crate::sessions::{OUTGOING_MAX, SessionContext};
use crate::store::guarded::{Accompanying, OwnedWrite};
use crate::store::memory::MemoryStore;
use crate::store::{LeaseId, Store};

/// A session with the orders that its agent gets.
struct Attached {
    session: AgentSession,
    orders: mpsc::Receiver<Result<Box<wire::ToAgent>, Box<Status>>>,
    _directory: TempDir,
}

fn host(number: u8) -> HostId {
    format!("host_{number:026}").parse().unwrap()
}

fn anna() -> (lockstep_core::name::OperatorName, Timestamp) {
    ("anna".parse().unwrap(), Timestamp(1))
}

impl Attached {
    /// Of the first host, with two secrets of `notes/production` and of `shop/production`, and a login.
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
        let cluster = "cl_01JBQR2KXYZ987654321012345".parse().unwrap();
        let vault = Arc::new(Vault::open(store.clone(), &directory.path().join("secrets.key")).unwrap());
        for environment in ["notes/production", "shop/production"] {
            let secret = |name: &str| (name.to_owned(), Secret::new(format!("{name} of {environment}")));
            let values = BTreeMap::from([secret("DATABASE_URL"), secret("JWT_SECRET")]);
            vault.import(&environment.parse().unwrap(), values, SecretsSource::File, anna()).await.unwrap();
        }
        let login = Login {
            registry: "ghcr.io".parse().unwrap(),
            username: "anna".to_owned(),
            password: Secret::new("password".to_owned()),
        };
        vault.log_in(&login, anna()).await.unwrap();
        let authority = Authority::open(&directory.path().join("authority"), &cluster, clock.now()).unwrap();
        let coordinator: lockstep_core::name::CoordinatorName = "c1".parse().unwrap();
        let keeper = PresenceKeeper::new(store.clone(), clock.clone(), coordinator.clone());
        let sessions = Sessions::new(SessionContext {
            refusals: Refusals::new(store.clone(), clock.clone()),
            store,
            vault,
            clock,
            authority: Arc::new(authority),
            cluster,
            coordinator: coordinator.clone(),
            presence: keeper.presence(),
        });
        let (outgoing, orders) = mpsc::channel(OUTGOING_MAX);
        let revoked = CancellationToken::new();
        let signed_by = IssuingName { coordinator, id: "1".to_owned() };
        let cut = Cut { signed_by, revoked: revoked.clone() };
        let recheck = sessions.enter(&host(1), &wire::Hello::default(), outgoing.clone(), cut);
        let session = AgentSession {
            sessions,
            host: host(1),
            outgoing,
            place: SessionPlace { lease: LeaseId(1), revision: 1 },
            recheck,
            pulse: Pulse::default(),
            noted: Instant::now(),
            revoked,
            open: BTreeMap::new(),
        };
        Self { session, orders, _directory: directory }
    }

    /// Assigns a step to a host.
    async fn assign(&self, host: &HostId, environment: &str, action: Action) {
        let environment: EnvironmentKey = environment.parse().unwrap();
        let deployment = "dep_01JBQR2KXYZ987654321012345".parse().unwrap();
        let key = StepKey { deployment, step: lockstep_core::id::StepId(1), direction: Direction::Do };
        let cluster = "cl_01JBQR2KXYZ987654321012345".parse().unwrap();
        let assignment = Assignment {
            token: Token { cluster, epoch: 1, seq: 1 },
            key,
            environment: environment.clone(),
            action: Some(action),
            limit: Millis::from_secs(1),
            traceparent: String::new(),
        };
        let write = OwnedWrite::put(keys::assignment(host, &environment, 1, 1), &assignment);
        let with = Accompanying { guards: Vec::new(), writes: vec![write] };
        guarded::give_away(&*self.session.sessions.context.store, &environment, with).await.unwrap();
    }

    async fn order(&mut self, said: Said) -> Order {
        self.session.handle_message(wire::FromAgent { message: Some(said) }).await.unwrap();
        self.orders.recv().await.unwrap().unwrap().message.unwrap()
    }

    /// The names of the values that the host gets; `None` if it is refused.
    async fn secrets(&mut self, environment: &str, version: u64, names: &[&str]) -> Option<Vec<String>> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let wanted = wire::SecretsWanted { request: 1, environment: environment.to_owned(), version, names };
        let order = self.order(Said::SecretsWanted(wanted)).await;
        let Order::Secrets(wire::Secrets { result: Some(result), .. }) = order else { panic!("{order:?}") };
        match result {
            wire::secrets::Result::Variables(variables) => {
                let mut names: Vec<String> = variables.values.into_keys().collect();
                names.sort();
                Some(names)
            }
            wire::secrets::Result::Refused(_) => None,
        }
    }

    /// Whether the host gets the login.
    async fn login(&mut self, registry: &str) -> bool {
        let wanted = wire::LoginWanted { request: 1, registry: registry.to_owned() };
        let order = self.order(Said::LoginWanted(wanted)).await;
        let Order::Login(wire::RegistryLogin { result: Some(result), .. }) = order else {
            panic!("{order:?}")
        };
        matches!(result, wire::registry_login::Result::Login(_))
    }
}

/// It uses one secret.
fn snapshot() -> Action {
    let database = DatabaseRef { url_from: "DATABASE_URL".to_owned(), secrets_version: 1 };
    Action::TakeSnapshot(TakeSnapshot { database, directory: "/var/backups".to_owned() })
}

#[tokio::test]
async fn a_host_gets_the_values_that_a_step_of_its_own_names_and_no_others() {
    let mut attached = Attached::new().await;
    assert_eq!(attached.secrets("notes/production", 1, &["DATABASE_URL"]).await, None, "no step is open");
    attached.assign(&host(2), "notes/production", snapshot()).await;
    assert_eq!(attached.secrets("notes/production", 1, &["DATABASE_URL"]).await, None, "another host's");
    attached.assign(&host(1), "notes/production", snapshot()).await;
    let given = attached.secrets("notes/production", 1, &["DATABASE_URL"]).await;
    assert_eq!(given, Some(vec!["DATABASE_URL".to_owned()]));
    assert_eq!(attached.secrets("notes/production", 1, &["JWT_SECRET"]).await, None, "another value");
    assert_eq!(attached.secrets("notes/production", 1, &[]).await, None, "all values");
    assert_eq!(attached.secrets("notes/production", 2, &["DATABASE_URL"]).await, None, "another version");
    assert_eq!(attached.secrets("shop/production", 1, &["DATABASE_URL"]).await, None, "another environment");
}

#[tokio::test]
async fn a_host_gets_the_login_that_a_step_of_its_own_needs_and_no_other() {
    let mut attached = Attached::new().await;
    assert!(!attached.login("ghcr.io").await, "no step is open");
    let present = |image: &str| {
        let id = Digest::of_content(b"image");
        Action::PresentImage(PresentImage {
            image: image.to_owned(),
            image_id: id.clone(),
            manifest: Some(id),
        })
    };
    attached.assign(&host(2), "notes/production", present("ghcr.io/acme/notes:1")).await;
    attached.assign(&host(1), "notes/production", present("registry.example/notes:1")).await;
    assert!(!attached.login("ghcr.io").await, "another registry's");
    attached.assign(&host(1), "shop/production", present("ghcr.io/acme/shop:1")).await;
    assert!(attached.login("ghcr.io").await);
}

#[tokio::test]
async fn a_host_gets_the_image_that_a_step_of_its_own_names_and_no_other() {
    let attached = Attached::new().await;
    let sessions = &attached.session.sessions;
    let (store, clock) = (sessions.context.store.clone(), sessions.context.clock.clone());
    let images = Images::new((store, clock), sessions.clone(), sessions.clone(), String::new());
    let (id, other) = (Digest::of_content(b"image"), Digest::of_content(b"another"));
    let present = PresentImage { image: "notes:1".to_owned(), image_id: id.clone(), manifest: None };
    attached.assign(&host(1), "notes/production", Action::PresentImage(present)).await;
    let taken = async |number, image: &Digest| {
        Images::take(&images, &host(number), &image.to_string()).await.err().unwrap().code()
    };
    assert_eq!(taken(1, &id).await, tonic::Code::NotFound, "no host has it");
    assert_eq!(taken(1, &other).await, tonic::Code::PermissionDenied);
    assert_eq!(taken(2, &id).await, tonic::Code::PermissionDenied);
}

#[tokio::test]
async fn the_session_of_a_host_that_is_not_recorded_is_cut() {
    let attached = Attached::new().await;
    attached.session.sessions.cut_once().await.unwrap();
    assert!(attached.session.revoked.is_cancelled());
}

#[tokio::test]
async fn the_health_of_so_many_environments_is_kept() {
    let mut attached = Attached::new().await;
    for number in 0..=ENVIRONMENTS_MAX {
        let environment = format!("notes/e{number}");
        let health = Said::Health(wire::HealthReport { environment, instances: Vec::new() });
        attached.session.handle_message(wire::FromAgent { message: Some(health) }).await.unwrap();
    }
    let kept = attached.session.sessions.lock()[&host(1)].health.len();
    assert_eq!(kept, ENVIRONMENTS_MAX);
}

#[test]
fn a_step_that_no_agent_would_accept_is_not_sent() {
    let assign = |bytes| wire::Assign {
        action: Some(wire::Document { json: vec![b'x'; bytes] }),
        ..wire::Assign::default()
    };
    assert_eq!(too_large(&assign(1024)), None);
    assert_eq!(too_large(&assign(MESSAGE_BYTES_MAX - 1024)), None);
    let refused = too_large(&assign(MESSAGE_BYTES_MAX)).unwrap();
    assert!(refused.why.unwrap().contains("the limit is 4096 KiB"));
}
