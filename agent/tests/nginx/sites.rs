//! The site that the tests install, with what it needs.

use std::fs;
use std::time::{Duration, Instant};

use lockstep_agent::nginx::{DesiredSite, Reloaded};
use lockstep_core::id::DeploymentId;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::action::{Endpoint, Site, SiteTls};
use lockstep_core::run::journal::TrafficCount;
use lockstep_core::time::Millis;

use crate::server::{Server, free_port};

pub(crate) fn environment() -> EnvironmentKey {
    "notes/production".parse().unwrap()
}

pub(crate) fn deployment(number: u32) -> DeploymentId {
    format!("dep_{number:026}").parse().unwrap()
}

pub(crate) fn site(endpoints: &[std::net::SocketAddr]) -> Site {
    let blue: Vec<Endpoint> = endpoints
        .iter()
        .map(|address| Endpoint { address: address.ip().to_string(), port: address.port() })
        .collect();
    Site {
        server_name: "127.0.0.1".to_owned(),
        listen_port: free_port(),
        green: blue.clone(),
        blue,
        body_limit: "10m".to_owned(),
        connect_timeout: Millis(300),
        send_timeout: Millis::from_secs(5),
        read_timeout: Millis::from_secs(5),
        tls: None,
    }
}

pub(crate) async fn install(server: &Server, number: u32, site: &Site) {
    let wanted = DesiredSite { deployment: &deployment(number), site, overwrites: None };
    let reloaded = server.nginx.install(&environment(), &wanted).await;
    assert_eq!(reloaded.map_err(|failure| format!("{failure:?}")), Ok(Reloaded::Yes));
    // The first count of a deployment is where it counts from.
    counted(server, &environment()).await.unwrap();
}

/// The requests since the first count.
pub(crate) async fn counted(server: &Server, of: &EnvironmentKey) -> Option<TrafficCount> {
    server.nginx.traffic(of, &deployment(1)).await
}

/// So many requests were counted, and so many of them lost. nginx writes its log after it has answered.
pub(crate) async fn assert_counted(server: &Server, of: &EnvironmentKey, requests: u64, lost: u64) {
    let wanted = TrafficCount { requests, lost };
    wait_for(&format!("{wanted:?}"), async || {
        let count = counted(server, of).await.unwrap();
        (count == wanted, format!("{count:?}"))
    })
    .await;
}

async fn wait_for(wanted: &str, is_so: impl AsyncFn() -> (bool, String)) {
    let begun = Instant::now();
    loop {
        let (is_so, seen) = is_so().await;
        if is_so {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{seen}, and not {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// So many requests count as lost.
pub(crate) async fn assert_lost(server: &Server, wanted: u64) {
    wait_for(&format!("{wanted} lost"), async || {
        let count = counted(server, &environment()).await.unwrap();
        (count.lost == wanted, format!("{count:?}"))
    })
    .await;
}

/// A certificate and its key, as somebody else would keep them on the host.
pub(crate) fn certificate_of(server: &Server, name: &str) -> SiteTls {
    let made = rcgen::generate_simple_self_signed(["notes.example".to_owned()]).unwrap();
    let (certificate, key) = (server.path(&format!("{name}.pem")), server.path(&format!("{name}.key")));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    SiteTls {
        certificate: certificate.display().to_string(),
        key: key.display().to_string(),
        redirect_from: None,
    }
}
