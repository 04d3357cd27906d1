//! The coordinator as a whole: opened, serving, ended in order.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use lockstep_core::access::{EnvironmentPattern, OperatorRole};
use lockstep_core::name::OperatorName;
use lockstep_core::time::Millis;
use lockstep_proto::wire::control_server::ControlServer;
use lockstep_proto::wire::enroll_server::EnrollServer;
use lockstep_proto::wire::session_server::SessionServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tracing::info;

use crate::agents::Agents;
use crate::api::GateLayer;
use crate::api::control::ControlApi;
use crate::api::enroll::EnrollApi;
use crate::api::session::SessionApi;
use crate::authority::Authority;
use crate::clock::{Clock, SystemClock};
use crate::driver::{Drivers, Parts};
use crate::secrets::Secrets;
use crate::sessions::Sessions;
use crate::settings::{Settings, StoreSettings};
use crate::store::Store;
use crate::store::etcd::EtcdStore;
use crate::store::sqlite::SqliteStore;
use crate::tokens::{self, Admits};
use crate::vault::Vault;
use crate::{cluster, operators, private, server, tails};

/// The name of the one coordinator that a SQLite store has.
const COORDINATOR: &str = "coordinator-1";

/// Whom the first token admits.
const FIRST_OPERATOR: &str = "admin";

/// The first operator's token lives longer than others: somebody may set a machine up today and log in tomorrow.
const FIRST_TOKEN_LIFE: Millis = Millis::from_secs(24 * 3600);

/// A message carries a plan or a step's log, and nothing larger.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Serves until `stop` says so.
///
/// # Errors
/// When it cannot begin: another coordinator has the directory, a file is damaged, the address is taken.
pub async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    make_private(&settings.directory)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Some(store) = open_store(&settings, &clock, &stop).await? else {
        return Ok(());
    };
    let directory = settings.directory;
    let known = Authority::cluster_of(&directory.join("authority"))?;
    let cluster = cluster::identify(&*store, known.as_ref()).await?;
    let authority = Arc::new(Authority::open(&directory.join("authority"), &cluster, clock.now())?);
    let vault = Arc::new(Vault::open(Arc::clone(&store), &directory.join("secrets.key"))?);
    offer_token(&directory, &*store, &authority, &*clock).await?;
    let coordinator = COORDINATOR.to_owned();
    let sessions =
        Sessions::new(Arc::clone(&store), Arc::clone(&vault), cluster.clone(), coordinator.clone());
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("cannot listen on {}", settings.listen))?;
    let address = listener.local_addr()?;
    let (tls, certificate) = server::tls(&authority, &coordinator, &*clock)?;
    let agents: Arc<dyn Agents> = Arc::<Sessions>::clone(&sessions);
    let secrets: Arc<dyn Secrets> = Arc::<Vault>::clone(&vault);
    let logs = directory.join("logs");
    let parts = Parts {
        store: Arc::clone(&store),
        agents,
        secrets,
        clock: Arc::clone(&clock),
        cluster: cluster.clone(),
        coordinator: coordinator.clone(),
        logs,
    };
    let enroll =
        EnrollApi { store: Arc::clone(&store), authority: Arc::clone(&authority), clock: Arc::clone(&clock) };
    let control =
        ControlApi { parts: parts.clone(), vault: Arc::clone(&vault), authority: Arc::clone(&authority) };
    let router = Server::builder()
        .http2_keepalive_interval(Some(std::time::Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(std::time::Duration::from_secs(10)))
        .layer(GateLayer { store, cluster })
        .add_service(ControlServer::new(control).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(EnrollServer::new(enroll).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(
            SessionServer::new(SessionApi { sessions: Arc::clone(&sessions) })
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
        );
    let announced = Announced::write(&directory, &address.to_string())?;
    info!(%address, directory = %directory.display(), "coordinator ready");
    let closing = async {
        stop.cancelled().await;
        sessions.close().await;
    };
    tokio::select! {
        served = async {
            let serve = router.serve_with_incoming_shutdown(server::accept(listener, tls), closing);
            let tails = tails::keep(parts.clone(), stop.clone());
            let (served, (), ()) = tokio::join!(serve, tails, Drivers::new(parts).run(stop.clone()));
            served
        } => served?,
        () = server::keep_valid(certificate, authority, coordinator, clock) => {}
    }
    drop(announced);
    info!("coordinator ended");
    Ok(())
}

/// Nothing, when `stop` says so before the store answers.
async fn open_store(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Arc<dyn Store>>> {
    Ok(match settings.store()? {
        StoreSettings::Sqlite => {
            Some(Arc::new(SqliteStore::open(&settings.directory, Arc::clone(clock)).await?))
        }
        StoreSettings::Etcd(etcd) => match EtcdStore::open_when_it_answers(&etcd, stop).await? {
            Some(store) => Some(Arc::new(store)),
            None => None,
        },
    })
}

fn make_private(directory: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let mode = fs::metadata(directory)?.mode();
    if mode & 0o077 != 0 {
        bail!("{0} can be entered by others: chmod 700 {0}", directory.display());
    }
    Ok(())
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
                Err(error).with_context(|| format!("cannot remove {}", file.display()))
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
    let admits = Admits::Operator { name, environments: EnvironmentPattern::All, role: OperatorRole::Admin };
    let token = tokens::make(store, authority.pin(), admits, now + FIRST_TOKEN_LIFE).await?;
    private::write(&file, &token.expose())?;
    info!(file = %file.display(), "there is no administrator: lockstep login with this token");
    Ok(())
}

/// The address stands in a file while it is served.
struct Announced {
    file: PathBuf,
}

impl Announced {
    fn write(directory: &Path, address: &str) -> anyhow::Result<Self> {
        let file = directory.join("address");
        private::write(&file, address)?;
        Ok(Self { file })
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.file) {
            tracing::warn!(%error, file = %self.file.display(), "the address stays announced");
        }
    }
}
