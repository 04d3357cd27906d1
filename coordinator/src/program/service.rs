//! The service: open everything, serve, and stop in order.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use lockstep_core::access::{EnvironmentPattern, OperatorRole};
use lockstep_core::id::ClusterId;
use lockstep_core::name::{CoordinatorName, OperatorName};
use lockstep_core::time::Millis;
use lockstep_proto::limits::MESSAGE_BYTES_MAX;
use lockstep_proto::wire::control_server::ControlServer;
use lockstep_proto::wire::enroll_server::EnrollServer;
use lockstep_proto::wire::relay_server::RelayServer;
use lockstep_proto::wire::session_server::SessionServer;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tower::layer::util::{Identity, Stack};
use tracing::{info, warn};

use crate::api::GateLayer;
use crate::api::control::{ControlApi, RecordIn};
use crate::api::enroll::EnrollApi;
use crate::api::relay::RelayApi;
use crate::api::session::SessionApi;
use crate::context::Context;
use crate::drive::Drivers;
use crate::identity::authority::Authority;
use crate::identity::tokens;
use crate::identity::tokens::TokenHolder;
use crate::identity::{operators, rotation};
use crate::ports::agents::Agents;
use crate::ports::clock::{Clock, SystemClock};
use crate::ports::secrets::Secrets;
use crate::ports::{metrics, private_files};
use crate::program::directory::{AUTHORITY, SECRETS_KEY, make_private};
use crate::program::server;
use crate::program::server::CurrentTls;
use crate::program::settings::{ExportSettings, Settings, StoreSettings};
use crate::record::refusals::Refusals;
use crate::record::vault::Vault;
use crate::record::{cluster, coordinators, tails};
use crate::sessions::images::Images;
use crate::sessions::peers::Peers;
use crate::sessions::presence::PresenceKeeper;
use crate::sessions::{self, Sessions};
use crate::store::Store;
use crate::store::etcd::EtcdStore;
use crate::store::sqlite::SqliteStore;

/// Whom the first token admits.
const FIRST_OPERATOR: &str = "admin";

/// The first operator's token lives longer than others: somebody may set a machine up today and log in tomorrow.
const FIRST_TOKEN_LIFE: Millis = Millis::from_secs(24 * 3600);

/// How long calls may go on after the stop. Whoever follows something is told at once; a plan may wait for its hosts.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// How long the store may take to hear that this coordinator ends.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// Serves until `stop` says so.
///
/// # Errors
/// When it cannot begin: another coordinator has the directory, a file is damaged, the address is taken.
pub async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    make_private(&settings.directory)?;
    allow_many_connections();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let chosen = settings.choose()?;
    let Some((store, record_in)) = open_store(&settings.directory, &chosen.store, &clock, &stop).await?
    else {
        return Ok(());
    };
    let directory = &settings.directory;
    let known = Authority::cluster_of(&directory.join(AUTHORITY))?;
    let cluster = cluster::identify(&*store, known.as_ref()).await?;
    let authority = Arc::new(Authority::open(&directory.join(AUTHORITY), &cluster, clock.now())?);
    rotation::adopt_stored_roots(&*store, &authority).await?;
    let listener = TcpListener::bind(chosen.listen)
        .await
        .with_context(|| format!("cannot listen on {}", chosen.listen))?;
    let address = listener.local_addr()?;
    let advertised = chosen.advertised(address);
    if advertised.is_none() && record_in == RecordIn::Etcd {
        bail!("other coordinators cannot reach this one at {address}: add --address ADDR:PORT");
    }
    let advertised = advertised.map(|address| address.to_string()).unwrap_or_default();
    coordinators::enlist(&*store, &authority, &advertised, clock.now()).await?;
    let vault = Arc::new(Vault::open(Arc::clone(&store), &directory.join(SECRETS_KEY))?);
    offer_token(directory, &*store, &authority, &*clock).await?;
    let own = ServiceParts {
        store,
        clock,
        authority,
        vault,
        record_in,
        advertised,
        directory: directory.clone(),
        export: chosen.export,
    };
    let announced = Announced::write(directory, &address.to_string())?;
    info!(%address, directory = %directory.display(), coordinator = %own.name(), "coordinator ready");
    lockstep_runtime::systemd::ready();
    serve(own, listener, stop).await?;
    drop(announced);
    info!("coordinator ended");
    Ok(())
}

/// What a coordinator opens before it serves.
struct ServiceParts {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    authority: Arc<Authority>,
    vault: Arc<Vault>,
    record_in: RecordIn,
    /// Where hosts reach this coordinator; empty where it is the only one.
    advertised: String,
    directory: PathBuf,
    export: ExportSettings,
}

impl ServiceParts {
    fn name(&self) -> &CoordinatorName {
        self.authority.coordinator()
    }

    fn cluster(&self) -> &ClusterId {
        self.authority.cluster()
    }
}

/// Lets agents, operators and other coordinators in, and drives.
async fn serve(own: ServiceParts, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
    let keeper = PresenceKeeper::new(Arc::clone(&own.store), Arc::clone(&own.clock), own.name().clone());
    let refusals = Refusals::new(Arc::clone(&own.store), Arc::clone(&own.clock));
    let sessions = Sessions::new(sessions::SessionContext {
        store: Arc::clone(&own.store),
        refusals: Arc::clone(&refusals),
        vault: Arc::clone(&own.vault),
        clock: Arc::clone(&own.clock),
        authority: Arc::clone(&own.authority),
        cluster: own.cluster().clone(),
        coordinator: own.name().clone(),
        presence: keeper.presence(),
    });
    let peers = Peers::new(
        Arc::clone(&own.store),
        Arc::clone(&own.clock),
        Arc::clone(&own.authority),
        Arc::clone(&sessions),
    );
    let agents: Arc<dyn Agents> = Arc::<Peers>::clone(&peers);
    let secrets: Arc<dyn Secrets> = Arc::<Vault>::clone(&own.vault);
    let context = Context {
        store: Arc::clone(&own.store),
        agents,
        secrets,
        clock: Arc::clone(&own.clock),
        kept_images: Arc::default(),
        unclaimed_names: Arc::default(),
        cluster: own.cluster().clone(),
        coordinator: own.name().to_string(),
        logs: own.export.logs.clone().unwrap_or_else(|| own.directory.join("logs")),
        state_files: own.export.state_files.clone(),
    };
    // The meter outlives the service; what it asks does not.
    let counted = Arc::downgrade(&sessions);
    metrics::watch_agents(move || counted.upgrade().map_or(0, |sessions| sessions.count()));
    let (speaking, _) = server::tls(&own.authority, &*own.clock)?;
    let speaking = Arc::new(CurrentTls::from_pointee(speaking));
    let (store, authority, clock) = (&own.store, &own.authority, &own.clock);
    let gate = GateLayer {
        store: Arc::clone(store),
        cluster: own.cluster().clone(),
        refusals,
        stopping: stop.clone(),
    };
    let router = router(&own, &context, &sessions, gate);
    let incoming = server::accept(listener, Arc::clone(&speaking));
    let closing = async {
        stop.cancelled().await;
        sessions.close().await;
    };
    tokio::select! {
        served = async {
            let serve = router.serve_with_incoming_shutdown(incoming, closing);
            let tails = tails::keep(Arc::clone(&own.store), sessions.progress(), stop.clone());
            let (served, (), ()) = tokio::join!(serve, tails, Drivers::new(context).run(stop.clone()));
            served
        } => served?,
        () = stop_limit(&stop) => warn!("calls were still open {} s after the stop; they end without an answer", STOP_LIMIT.as_secs()),
        () = server::keep_current(speaking, Arc::clone(authority), Arc::clone(clock)) => {}
        never = rotation::follow_rotation(Arc::clone(store), Arc::clone(authority), Arc::clone(clock)) => match never {},
        never = sessions.cut_revoked() => match never {},
        never = peers.run() => match never {},
        never = sessions.keep_looking() => match never {},
        never = keeper.run() => match never {},
    }
    if tokio::time::timeout(GOODBYE_LIMIT, keeper.end()).await.is_err() {
        warn!("the store does not answer; the lease of this coordinator ends by itself");
    }
    Ok(())
}

/// Until [`STOP_LIMIT`] has passed since the stop.
async fn stop_limit(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(STOP_LIMIT).await;
}

fn router(
    own: &ServiceParts,
    context: &Context,
    sessions: &Arc<Sessions>,
    gate: GateLayer,
) -> Router<Stack<GateLayer, Identity>> {
    let (store, authority, vault) = (&own.store, &own.authority, &own.vault);
    let enroll = EnrollApi {
        store: Arc::clone(store),
        authority: Arc::clone(authority),
        clock: Arc::clone(&own.clock),
        vault: Arc::clone(vault),
    };
    let kept = (Arc::clone(store), Arc::clone(&own.clock));
    let images = Images::new(kept, Arc::clone(&context.agents), Arc::clone(sessions), own.advertised.clone());
    let control = ControlApi {
        context: context.clone(),
        images: Arc::clone(&images),
        vault: Arc::clone(vault),
        authority: Arc::clone(authority),
        record_in: own.record_in,
        directory: own.directory.clone(),
    };
    let session = SessionApi { sessions: Arc::clone(sessions), images };
    let relay = RelayApi {
        sessions: Arc::clone(sessions),
        authority: Arc::clone(authority),
        clock: Arc::clone(&own.clock),
    };
    Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .layer(gate)
        .add_service(ControlServer::new(control).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(EnrollServer::new(enroll).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(SessionServer::new(session).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(RelayServer::new(relay).max_decoding_message_size(MESSAGE_BYTES_MAX))
}

/// Each agent is a connection, and a service is usually given 1,024 descriptors, and leave to take more.
fn allow_many_connections() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        warn!(%error, allowed = limit.current, "cannot raise the limit of open files");
    }
}

/// `None` if `stop` is cancelled before the store answers.
pub(crate) async fn open_store(
    directory: &Path,
    settings: &StoreSettings,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<(Arc<dyn Store>, RecordIn)>> {
    match settings {
        StoreSettings::Sqlite => {
            let store = SqliteStore::open(directory, Arc::clone(clock)).await?;
            Ok(Some((Arc::new(store), RecordIn::OneMachine)))
        }
        StoreSettings::Etcd(etcd) => {
            let store = EtcdStore::open_when_it_answers(etcd, stop).await?;
            Ok(store.map(|store| (Arc::new(store) as Arc<dyn Store>, RecordIn::Etcd)))
        }
    }
}

/// Where nobody can let others in, a token waits in a private file: at the first start, and also when
/// the last administrator was revoked or let its certificate end. Whoever can read the file is root here.
async fn offer_token(
    directory: &Path,
    store: &dyn Store,
    authority: &Authority,
    clock: &dyn Clock,
) -> anyhow::Result<()> {
    let (file, now) = (directory.join("operator.token"), clock.now());
    tokens::forget_expired(store, now).await?;
    if operators::list(store).await?.iter().any(|operator| operator.can_administer(now)) {
        return match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot delete {}", file.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        };
    }
    let name: OperatorName = FIRST_OPERATOR.parse().expect("a constant that is a name");
    let withdrawn = tokens::withdrawal(store, &name).await?;
    if !withdrawn.is_empty() {
        // One token at a time: that of an earlier start is not in the file any more.
        store.commit(Vec::new(), withdrawn).await?;
    }
    let admits =
        TokenHolder::Operator { name, environments: EnvironmentPattern::All, role: OperatorRole::Admin };
    let token = tokens::make(store, &authority.pin(), admits, now + FIRST_TOKEN_LIFE).await?;
    private_files::write(&file, &token.expose())?;
    info!(file = %file.display(), "no administrator is active; use the token in this file: lockstep login");
    Ok(())
}

/// The file with the address of the coordinator, which exists while it serves.
struct Announced {
    file: PathBuf,
}

impl Announced {
    fn write(directory: &Path, address: &str) -> anyhow::Result<Self> {
        let file = directory.join("address");
        private_files::write(&file, address)?;
        Ok(Self { file })
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.file) {
            tracing::warn!(%error, file = %self.file.display(), "cannot delete the file with the address");
        }
    }
}
