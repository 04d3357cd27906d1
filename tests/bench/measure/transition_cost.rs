//! One step of a driver, as it is written to etcd: an entry of the journal and an assignment, guarded by lock and
//! epoch; beside a bare put of as many bytes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use lockstep_coordinator::program::settings::EtcdSettings;
use lockstep_coordinator::store::etcd::EtcdStore;
use lockstep_coordinator::store::guarded::{Acquired, Acquisition, Held, OwnedWrite};
use lockstep_coordinator::store::{Committed, Store, keys};
use lockstep_core::id::{DeploymentId, HostId};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::time::Millis;

use crate::case::Case;
use crate::report::{Limit, Measured};
use crate::statistics::median;
use lockstep_tests::bed::server::etcd::{Etcd, Members};

const ROUNDS: u32 = 500;

/// What an entry and an assignment weigh together, about.
const BYTES: usize = 1200;

const LIVES: Millis = Millis::from_secs(600);

pub(super) fn measure(directory: &Path, say: &mut dyn FnMut(&str)) -> Result<Measured> {
    let etcd = Etcd::start(directory, Members::Three)?;
    say(&format!("· transition_cost: {ROUNDS} of each, in turn, on three members"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (ours, bare) = runtime.block_on(in_turn(&etcd))?;
    Ok(Measured {
        case: Case::TransitionCost,
        unit: "milliseconds",
        ours: median(&ours),
        peer: median(&bare),
        peer_name: "a bare put",
        interval: None,
        limit: Limit::RatioAtMost(2.0),
    })
}

async fn in_turn(etcd: &Etcd) -> Result<(Vec<f64>, Vec<f64>)> {
    let settings = EtcdSettings {
        endpoints: etcd.endpoints(),
        ca: etcd.certificates.authority.clone(),
        certificate: etcd.certificates.certificate.clone(),
        key: etcd.certificates.key.clone(),
        prefix: "/bench".to_owned(),
    };
    let store = EtcdStore::open(&settings).await?;
    let mut client = client(&settings).await?;
    let environment: EnvironmentKey = "bench/production".parse()?;
    let held = acquire(&store, &environment).await?;
    let deployment: DeploymentId = "dep_01JBQR2KXYZ987654321012345".parse()?;
    let host: HostId = "host_01JBQR2KXYZ987654321012345".parse()?;
    let half = vec![b'x'; BYTES / 2];
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    // A tenth more first, which does not count.
    for round in 0..ROUNDS + ROUNDS / 10 {
        let writes = vec![
            OwnedWrite::put_bytes(keys::journal_entry(&deployment, round), half.clone()),
            OwnedWrite::put_bytes(
                keys::assignment(&host, &environment, held.epoch(), round.into()),
                half.clone(),
            ),
        ];
        let begun = Instant::now();
        let committed = held.commit(&store, Vec::new(), writes).await?;
        let took = begun.elapsed();
        ensure!(committed != Committed::No, "the lock was lost in a measurement");
        let begun = Instant::now();
        client.put(format!("/bare/{round:08}"), vec![b'x'; BYTES], None).await?;
        if round >= ROUNDS / 10 {
            ours.push(milliseconds(took));
            bare.push(milliseconds(begun.elapsed()));
        }
    }
    Ok((ours, bare))
}

async fn acquire(store: &dyn Store, environment: &EnvironmentKey) -> Result<Held> {
    let acquisition = Acquisition {
        environment: environment.clone(),
        coordinator: "bench".to_owned(),
        nonce: "bench".to_owned(),
        lease: store.grant(LIVES).await?,
    };
    match acquisition.attempt(store).await? {
        Acquired::Held(held) => Ok(held),
        Acquired::ByAnother(_) | Acquired::Again => bail!("the lock of an empty store is not to be had"),
    }
}

async fn client(settings: &EtcdSettings) -> Result<Client> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(read(&settings.ca)?))
        .identity(Identity::from_pem(read(&settings.certificate)?, read(&settings.key)?));
    let first = settings.endpoints.first().context("etcd has a member")?;
    Ok(Client::connect([first], Some(ConnectOptions::new().with_tls(tls))).await?)
}

fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}
