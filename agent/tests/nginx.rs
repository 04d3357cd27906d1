//! The site on a real nginx: whom it passes over, TLS, and what somebody changed in it by hand.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "nginx/reload.rs"]
mod reload;
#[path = "nginx/requests.rs"]
mod requests;
#[path = "nginx/server.rs"]
mod server;
#[path = "nginx/sites.rs"]
mod sites;
#[path = "nginx/sizes.rs"]
mod sizes;
#[path = "nginx/switch.rs"]
mod switch;

use std::fs;
use std::time::{Duration, Instant};

use lockstep_agent::nginx::{DesiredSite, InstalledSite, Reloaded, SiteRevert, certificate};
use lockstep_agent::probe::Scheme;
use lockstep_core::id::Digest;
use lockstep_core::name::{EnvironmentKey, NAME_LENGTH_MAX};
use lockstep_core::object_name::{OBJECT_NAME_LENGTH_MAX, ObjectName};
use lockstep_core::plan::action::{Site, SiteTls};
use lockstep_core::record::observed::SiteChange;
use lockstep_core::slot::Slot;
use server::{Application, Dark, Server, ask, free_port, wait_until};
use sites::{assert_counted, assert_lost, certificate_of, deployment, environment, install, site};

#[tokio::test]
async fn of_several_hosts_a_dead_one_is_passed_over() {
    let server = Server::start();
    let lives = Application::start("127.0.0.1", 0);
    let port = lives.address.port();
    let dies = Application::start("127.0.0.2", port);
    let site = site(&[lives.address, dies.address]);
    install(&server, 1, &site).await;
    let asked = |method| ask(site.listen_port, method);
    wait_until("both have the traffic", || asked("GET").1 == dies.address.to_string());

    // Its process ends: whoever connects is refused.
    drop(dies);
    for method in ["GET", "POST"].repeat(50) {
        assert_eq!(asked(method), (200, lives.address.to_string()));
    }
    // What another host answered is not lost.
    assert_lost(&server, 0).await;

    // Without power: whoever connects waits, once in a while.
    let dark = Dark::start("127.0.0.2", port);
    let mut slow = 0;
    for method in ["GET", "POST"].repeat(100) {
        let begun = Instant::now();
        assert_eq!(asked(method), (200, lives.address.to_string()));
        slow += u32::from(begun.elapsed() >= Duration::from_millis(300));
    }
    assert!(slow <= 2, "{slow} of 200 requests waited for a host that {} is not", dark.address);

    // It is back: it has its share again by itself.
    drop(dark);
    let back = Application::start("127.0.0.2", port);
    let begun = Instant::now();
    while asked("GET").1 != back.address.to_string() {
        assert!(begun.elapsed() < Duration::from_secs(15), "it gets nothing");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn where_all_hosts_were_dead_the_first_that_is_back_is_used_at_once() {
    let server = Server::start();
    let (first, second) = (Application::start("127.0.0.1", 0), free_port());
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 2], second));
    let (site, address) = (site(&[first.address, nobody]), first.address);
    install(&server, 1, &site).await;
    drop(first);
    for _ in 0..20 {
        assert_eq!(ask(site.listen_port, "GET").0, 502);
    }
    // Each of several tries ended without a byte.
    assert_lost(&server, 20).await;
    let back = Application::start("127.0.0.1", address.port());
    let begun = Instant::now();
    assert_eq!(ask(site.listen_port, "GET"), (200, back.address.to_string()));
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
}

#[tokio::test]
async fn with_a_certificate_nginx_speaks_tls_and_sends_everybody_there() {
    let server = Server::start();
    let application = Application::start("127.0.0.1", 0);
    let tls = SiteTls { redirect_from: Some(free_port()), ..certificate_of(&server, "notes") };
    let site = Site { tls: Some(Box::new(tls.clone())), ..site(&[application.address]) };
    certificate::check(&tls).unwrap();
    install(&server, 1, &site).await;

    let at = server.nginx.address(&environment()).unwrap();
    assert_eq!((at.scheme, at.port), (Scheme::Https, site.listen_port));
    let answered = server.nginx.ask(&at, "/", Duration::from_secs(5)).await.unwrap();
    let from = answered.headers.get("X-Lockstep-Upstream").unwrap();
    assert_eq!(from.to_str().unwrap(), application.address.to_string());
    assert_eq!(ask(site.listen_port, "GET").0, 400, "it is no plain listener");
    assert_eq!(ask(tls.redirect_from.unwrap(), "POST").0, 308);
    assert_counted(&server, &environment(), 1, 0).await;
}

#[tokio::test]
async fn files_that_are_no_certificate_and_its_key_are_refused() {
    let server = Server::start();
    let (tls, other) = (certificate_of(&server, "notes"), certificate_of(&server, "other"));
    let refused = |tls: &SiteTls| certificate::check(tls).unwrap_err().what;
    let missing = SiteTls { certificate: "/nowhere/notes.pem".to_owned(), ..tls.clone() };
    assert_eq!(refused(&missing), "cannot read /nowhere/notes.pem");
    let mixed = SiteTls { key: other.key, ..tls.clone() };
    assert!(refused(&mixed).contains("does not belong to the certificate"), "{}", refused(&mixed));
    let swapped = SiteTls { certificate: tls.key.clone(), key: tls.certificate.clone(), redirect_from: None };
    assert!(refused(&swapped).contains("is not a certificate"), "{}", refused(&swapped));
    let keyless = SiteTls { key: tls.certificate.clone(), ..tls };
    assert!(refused(&keyless).contains("is not a key"), "{}", refused(&keyless));
}

fn changed(server: &Server) -> SiteChange {
    match server.nginx.installed(&environment()).unwrap() {
        InstalledSite::Changed(change) => change,
        other @ (InstalledSite::Nothing | InstalledSite::Ours(_)) => panic!("it is {other:?}"),
    }
}

/// A site that somebody changed by hand after it was installed.
struct ByHand {
    server: Server,
    // It serves until the test ends.
    _application: Application,
    installed: Site,
    secret: String,
    text: String,
}

impl ByHand {
    async fn new() -> Self {
        let server = Server::start();
        let application = Application::start("127.0.0.1", 0);
        let installed = site(&[application.address]);
        install(&server, 1, &installed).await;
        let secret = fs::read_to_string(server.path("traffic/probe.secret")).unwrap();
        let text = fs::read_to_string(server.site()).unwrap();
        let status = format!("location = /.lockstep-status-{secret} {{");
        let text = text.replace(&status, &format!("{status} # mine")).replace("10m;", "20m;");
        fs::write(server.site(), &text).unwrap();
        Self { server, _application: application, installed, secret, text }
    }

    /// The site of a next deployment.
    fn wanted(&self) -> Site {
        Site { body_limit: "30m".to_owned(), ..self.installed.clone() }
    }

    /// A change that is not asked for as it is leaves everything as it is.
    async fn check_refused(&self, overwrites: Option<&Digest>) {
        let (server, id, site) = (&self.server, deployment(2), self.wanted());
        let wanted = DesiredSite { deployment: &id, site: &site, overwrites };
        let refused = server.nginx.install(&environment(), &wanted).await.unwrap_err();
        assert!(refused.what.contains("was changed by hand"), "{refused:?}");
        // Its undo finds nothing of its own to take back.
        server.nginx.restore(&environment(), &id).await.unwrap();
        assert_eq!(server.nginx.remove(&environment()).await.unwrap(), SiteRevert::LeftAsChanged);
        assert_eq!(fs::read_to_string(server.site()).unwrap(), self.text);
    }
}

#[tokio::test]
async fn what_somebody_changed_by_hand_is_shown_without_the_secret() {
    let by_hand = ByHand::new().await;
    let change = changed(&by_hand.server);
    let installed = Some(by_hand.installed.digest());
    assert_eq!((change.added, change.removed, &change.installed), (2, 2, &installed));
    assert!(change.diff.contains("+    client_max_body_size 20m;"), "{}", change.diff);
    assert!(!change.diff.contains(&by_hand.secret), "{}", change.diff);
}

#[tokio::test]
async fn what_somebody_changed_by_hand_is_not_overwritten_unasked() {
    ByHand::new().await.check_refused(None).await;
}

#[tokio::test]
async fn what_somebody_changed_by_hand_is_not_overwritten_where_another_text_was_meant() {
    let by_hand = ByHand::new().await;
    let other = by_hand.installed.digest();
    by_hand.check_refused(Some(&other)).await;
}

#[tokio::test]
async fn what_somebody_changed_by_hand_is_overwritten_when_asked_and_comes_back_with_the_undo() {
    let by_hand = ByHand::new().await;
    let (server, id, site) = (&by_hand.server, deployment(2), by_hand.wanted());
    let change = changed(server);
    let wanted = DesiredSite { deployment: &id, site: &site, overwrites: Some(&change.there) };
    assert_eq!(server.nginx.install(&environment(), &wanted).await.unwrap(), Reloaded::Yes);
    assert_eq!(server.nginx.installed(&environment()).unwrap(), InstalledSite::Ours(site.digest()));
    // Taken back, it is there again, and still known as changed.
    assert_eq!(server.nginx.restore(&environment(), &id).await.unwrap(), SiteRevert::Yes);
    assert_eq!(changed(server), change);
}

#[tokio::test]
async fn an_installation_that_was_killed_between_its_two_files_is_no_change_by_hand() {
    let server = Server::start();
    let application = Application::start("127.0.0.1", 0);
    let (first, copy) =
        (site(&[application.address]), server.path("traffic/notes-production/site.installed"));
    install(&server, 1, &first).await;
    let before = fs::read_to_string(server.site()).unwrap();
    let second = Site { body_limit: "30m".to_owned(), ..first.clone() };
    install(&server, 2, &second).await;
    // As it stood in the middle of it.
    fs::write(server.site(), &before).unwrap();
    assert_ne!(fs::read_to_string(&copy).unwrap(), before);
    assert_eq!(server.nginx.installed(&environment()).unwrap(), InstalledSite::Ours(first.digest()));
    install(&server, 2, &second).await;
    let after = fs::read_to_string(&copy).unwrap();
    server.nginx.restore(&environment(), &deployment(2)).await.unwrap();
    assert_eq!(fs::read_to_string(server.site()).unwrap(), before);
    // And as it stood in the middle of the way back, which is gone again.
    fs::write(&copy, &after).unwrap();
    assert_eq!(server.nginx.restore(&environment(), &deployment(2)).await.unwrap(), SiteRevert::Yes);
    assert_eq!(server.nginx.installed(&environment()).unwrap(), InstalledSite::Ours(first.digest()));
    assert_eq!(fs::read_to_string(&copy).unwrap(), before);
}

#[tokio::test]
async fn additions_are_included_and_stay_when_the_site_goes() {
    let server = Server::start();
    let application = Application::start("127.0.0.1", 0);
    let first = site(&[application.address]);
    let additions = server.path("sites/lockstep-notes-production.d");
    install(&server, 1, &first).await;
    assert!(fs::read_to_string(additions.join("README")).unwrap().contains("ends in .conf"));
    server.nginx.remove(&environment()).await.unwrap();
    assert!(!additions.exists() && !server.site().exists());

    fs::create_dir(&additions).unwrap();
    fs::write(additions.join("own.conf"), "location = / { return 204; }").unwrap();
    // Another one, so that what answers is not the worker of before.
    install(&server, 2, &Site { body_limit: "30m".to_owned(), ..first.clone() }).await;
    assert_eq!(ask(first.listen_port, "GET").0, 204);
    server.nginx.remove(&environment()).await.unwrap();
    assert!(additions.join("own.conf").exists() && !additions.join("README").exists());
}

#[tokio::test]
async fn the_hosts_own_proxy_params_are_used_and_may_say_what_the_site_says_too() {
    let server = Server::start();
    let application = Application::start("127.0.0.1", 0);
    let params = "proxy_set_header Host $host;\nproxy_read_timeout 7s;\n";
    fs::write(server.path("proxy_params"), params).unwrap();
    install(&server, 1, &site(&[application.address])).await;
    let text = fs::read_to_string(server.site()).unwrap();
    assert!(text.contains("proxy_params;") && !text.contains("X-Real-IP"), "{text}");
}

/// With nginx's own sizes of its tables: every environment is accepted, beside each other.
#[tokio::test]
async fn nginx_accepts_the_longest_names_and_those_that_were_one_name_before() {
    let keys: Vec<EnvironmentKey> = [
        format!("{}/{}", "a".repeat(NAME_LENGTH_MAX), "b".repeat(NAME_LENGTH_MAX)),
        format!("{}/{}", "a".repeat(NAME_LENGTH_MAX), "c".repeat(NAME_LENGTH_MAX)),
        format!("a{0}a/b{0}b", "-".repeat(NAME_LENGTH_MAX - 2)),
        "a/b".to_owned(),
        "sn-a/b".to_owned(),
        "sn/a-b".to_owned(),
        // With one more letter in all it would be cut.
        format!(
            "{}/{}",
            "a".repeat(NAME_LENGTH_MAX),
            "b".repeat(OBJECT_NAME_LENGTH_MAX - NAME_LENGTH_MAX - 1)
        ),
    ]
    .iter()
    .map(|key| key.parse().unwrap())
    .collect();
    let server = Server::start_with(keys.iter().map(|key| (key.clone(), ObjectName::encode(key))).collect());
    let application = Application::start("127.0.0.1", 0);
    for key in &keys {
        let site = site(&[application.address]);
        let id = deployment(1);
        let wanted = DesiredSite { deployment: &id, site: &site, overwrites: None };
        assert_eq!(server.nginx.install(key, &wanted).await.unwrap(), Reloaded::Yes, "{key}");
    }
    for key in &keys {
        server.nginx.switch(key, Slot::Green).unwrap();
        assert_eq!(keys.iter().filter(|other| server.nginx.slot(other) == Slot::Green).count(), 1, "{key}");
        server.nginx.switch(key, Slot::Blue).unwrap();
    }
}
