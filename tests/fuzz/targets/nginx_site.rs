//! nginx's configuration as it stands on a host: a site that was installed and perhaps changed by hand, and the files of
//! an administrator. The second part of an input is the site as it was installed.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use lockstep_agent::nginx::fuzzing::{directives, has_access_log, shown_change};
use lockstep_agent::nginx::site::{Address, SitePaths, address_of, digest_of, render};
use lockstep_agent::nginx::sizes::Sizes;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::action::{Endpoint, Site, SiteTls};
use lockstep_core::time::Millis;
use lockstep_fuzz::parts;

const SECRET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
const ACCESS_LOG: &str = "/var/log/nginx/lockstep-notes.access.log";

fuzz_target!(|text: &str| {
    let [there, installed] = parts(text);
    for (depth, name) in directives(there) {
        assert!(there.contains(name) && depth <= there.len(), "{name:?} at {depth}");
        assert!(!name.contains([';', '{', '}', '#', ' ', '\n']), "{name:?} is no name");
    }
    if let Some(digest) = digest_of(there) {
        assert!(there.lines().next().is_some_and(|line| line.ends_with(digest.as_str())), "{digest}");
    }
    assert!(!shown_change(Some(installed), there, Some(SECRET)).contains(SECRET));
    if let Some(address) = address_of(there) {
        is_found_again(&address);
    }
});

/// A site at that address is rendered, and read where it is served.
fn is_found_again(Address { scheme, server_name, port }: &Address) {
    // What a declaration accepts as the host of a URL.
    let is_name =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    if server_name.is_empty() || !is_name(server_name) {
        return;
    }
    let tls = SiteTls {
        certificate: "/etc/ssl/notes.pem".to_owned(),
        key: "/etc/ssl/notes.key".to_owned(),
        redirect_from: Some(80),
    };
    let endpoint = |port| vec![Endpoint { address: "10.0.0.1".to_owned(), port }];
    let site = Site {
        server_name: server_name.clone(),
        listen_port: *port,
        blue: endpoint(20_000),
        green: endpoint(20_001),
        body_limit: "1m".to_owned(),
        connect_timeout: Millis::from_secs(2),
        send_timeout: Millis::from_secs(60),
        read_timeout: Millis::from_secs(60),
        tls: matches!(scheme, lockstep_agent::probe::Scheme::Https).then(|| Box::new(tls)),
    };
    let environment: EnvironmentKey = "notes/production".parse().expect("a key");
    let paths = SitePaths {
        switch: Path::new("/var/lib/lockstep/traffic/notes/green"),
        access_log: Path::new(ACCESS_LOG),
        additions: Path::new("/etc/nginx/sites-enabled/notes.d"),
        proxy_params: None,
        sizes: Sizes::OURS,
        probe_secret: SECRET,
    };
    let text = render(&environment, &site, &paths);
    assert_eq!(address_of(&text), Some(Address::of_site(&site)));
    assert_eq!(digest_of(&text), Some(site.digest()));
    assert!(has_access_log(&text, Path::new(ACCESS_LOG)));
    assert!(directives(&text).iter().any(|(depth, name)| *depth == 1 && *name == "server_name"));
}
