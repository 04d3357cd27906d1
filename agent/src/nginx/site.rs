//! Renders the nginx configuration of an environment from a [`Site`] and the paths of its files.
//!
//! It has both slots, and one test per request selects one: green if the switch file exists, else blue (measured: no
//! request lost over a hundred switches, where a reload loses some every time).

use std::path::Path;

use lockstep_core::id::Digest;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::object_name::ObjectName;
use lockstep_core::plan::action::{Endpoint, Site, SiteTls, SwitchTraffic};
use lockstep_core::spec::{HTTP_PORT, HTTPS_PORT};

use super::access_log::LOST;
use super::sizes::Sizes;
use crate::probe::Scheme;

/// The header that asks nginx to say whence its answer came.
pub const PROBE_HEADER: &str = "X-Lockstep-Probe";
/// Which endpoint answered.
pub const UPSTREAM_HEADER: &str = "X-Lockstep-Upstream";
/// Which text of the site answered.
pub const SITE_HEADER: &str = "X-Lockstep-Site";

/// For TLS 1.2; those of 1.3 are all good.
const TLS_1_2_CIPHERS: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:\
ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";

/// Where nginx's counters are, before the secret; only for this machine.
pub const STATUS_PATH: &str = "/.lockstep-status-";

/// What the first line of a site says before its digest.
const FIRST_LINE: &str =
    "# Made by Lockstep; put additions of your own into the folder that is included below. Site ";

/// Where the site's files are.
#[derive(Debug, Clone, Copy)]
pub struct SitePaths<'a> {
    /// There, or not: green, or blue.
    pub switch: &'a Path,
    /// One line for each request of a client.
    pub access_log: &'a Path,
    /// An administrator's own additions.
    pub additions: &'a Path,
    /// What this host says of every proxy, if it says anything.
    pub proxy_params: Option<&'a Path>,
    pub sizes: Sizes,
    /// Only who knows it is told whence an answer came.
    pub probe_secret: &'a str,
}

/// Where nginx serves a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub scheme: Scheme,
    pub server_name: String,
    pub port: u16,
}

impl Address {
    pub fn of_site(site: &Site) -> Self {
        let scheme = if site.tls.is_some() { Scheme::Https } else { Scheme::Http };
        Self { scheme, server_name: site.server_name.clone(), port: site.listen_port }
    }

    /// Where no site was installed that would say more.
    pub fn of_switch(switch: &SwitchTraffic) -> Self {
        let (server_name, port) = (switch.server_name.clone(), switch.listen_port);
        Self { scheme: Scheme::Http, server_name, port }
    }
}

/// The site's text.
pub fn render(environment: &EnvironmentKey, site: &Site, paths: &SitePaths<'_>) -> String {
    // Two underscores before what a variable is for: no name of an earlier version meets one of these.
    let name = format!("{}_", ObjectName::encode(environment));
    let digest = site.digest();
    let mut text = format!("{FIRST_LINE}{digest}\n");
    text.push_str(&upstream(&format!("{name}_blue"), &site.blue));
    text.push_str(&upstream(&format!("{name}_green"), &site.green));
    text.push_str(&maps(&name, digest.short(), paths.probe_secret));
    text.push_str(&server(&name, site, paths));
    if let Some(tls) = &site.tls {
        text.push_str(&redirect(site, tls, paths.sizes));
    }
    text
}

/// One endpoint is always tried: taken out for a while after a failed connection, it would be missed. Of several a
/// dead one is passed over, and tried again by one request every ten seconds; where all of them look dead, all are
/// tried (`backup`), because nginx answers 502 by itself otherwise until the ten seconds are over.
fn upstream(name: &str, endpoints: &[Endpoint]) -> String {
    let mut text = format!("upstream {name} {{\n");
    if endpoints.len() > 1 {
        // What one worker has found out all of them know.
        text.push_str(&format!("    zone {name} 64k;\n"));
        for endpoint in endpoints {
            text.push_str(&format!("    server {endpoint} max_fails=1 fail_timeout=10s;\n"));
        }
        for endpoint in endpoints {
            text.push_str(&format!("    server {endpoint} max_fails=0 backup;\n"));
        }
    } else {
        for endpoint in endpoints {
            text.push_str(&format!("    server {endpoint} max_fails=0;\n"));
        }
    }
    text.push_str("    keepalive 32;\n    keepalive_timeout 2s;\n}\n");
    text
}

/// What is told to who knows the secret, and what is logged: every request but the agent's own. As lost count those that
/// nginx answered by itself, because the last that it tried gave it no headers that it could pass on: none at all, not
/// all of them, or too many. The format is nginx's `combined`, and three words more.
fn maps(name: &str, short: &str, probe_secret: &str) -> String {
    format!(
        r#"map $http_upgrade ${name}_upgrade {{
    default upgrade;
    '' '';
}}
map $http_x_lockstep_probe ${name}_upstream {{
    default '';
    {probe_secret} $upstream_addr;
}}
map $http_x_lockstep_probe ${name}_site {{
    default '';
    {probe_secret} {short};
}}
map "$status:$upstream_header_time:${name}_site" ${name}_lost {{
    default -;
    "~^50[024]:(.*[, ])?-:$" {LOST};
    "~^50[24]::$" {LOST};
}}
map ${name}_site ${name}_logged {{
    default 0;
    '' 1;
}}
log_format {name}_access '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
    '"$http_referer" "$http_user_agent" $request_time $upstream_addr ${name}_lost';
"#
    )
}

/// A write for each line costs as much as the rest of what the site adds to a request. A line is in the log after 20 ms at
/// the latest, sooner than any step after a switch ends, which counts them.
const LOG_BUFFER: &str = "buffer=64k flush=20ms";

fn server(name: &str, site: &Site, paths: &SitePaths<'_>) -> String {
    let SitePaths { switch, access_log, additions, proxy_params: _, sizes, probe_secret } = paths;
    let (listen, tls) = match &site.tls {
        Some(tls) => (" ssl", tls_directives(name, tls)),
        None => ("", String::new()),
    };
    format!(
        r#"server {{
    listen {port}{listen};
    server_name {server_name};
{tls}    client_max_body_size {body_limit};
{timeouts}{answer}{request}    access_log {log} {name}_access {LOG_BUFFER} if=${name}_logged;
    add_header {UPSTREAM_HEADER} ${name}_upstream always;
    add_header {SITE_HEADER} ${name}_site always;
    set ${name}_slot {name}_blue;
    if (-f {switch}) {{
        set ${name}_slot {name}_green;
    }}
    location = {STATUS_PATH}{probe_secret} {{
        access_log off;
        allow 127.0.0.1;
        deny all;
        stub_status;
    }}
    location / {{
        proxy_pass http://${name}_slot;
        proxy_http_version 1.1;
{headers}        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection ${name}_upgrade;
    }}
    include {additions}/*.conf;
}}
"#,
        port = site.listen_port,
        server_name = site.server_name,
        body_limit = site.body_limit,
        timeouts = timeouts(site),
        answer = sizes.answer,
        request = sizes.request,
        log = access_log.display(),
        switch = switch.display(),
        headers = headers(site, paths.proxy_params),
        additions = additions.display(),
    )
}

/// Of the server, so that they hold in an administrator's own locations, and what `proxy_params` says of them wins.
fn timeouts(site: &Site) -> String {
    let Site { connect_timeout, send_timeout, read_timeout, .. } = site;
    let mut text = format!(
        "    proxy_connect_timeout {}ms;\n    proxy_send_timeout {}ms;\n    proxy_read_timeout {}ms;\n",
        connect_timeout.0, send_timeout.0, read_timeout.0
    );
    let endpoints = site.blue.len().max(site.green.len());
    if endpoints > 1 {
        // Once over: what one host did not answer in all that time is asked of one other, and not of every one.
        let limit = read_timeout.0.saturating_mul(2);
        // Without `non_idempotent`: a POST that a host may have taken is not sent to another.
        text.push_str(&format!(
            "    proxy_next_upstream error timeout;\n    proxy_next_upstream_tries {endpoints};\n    \
             proxy_next_upstream_timeout {limit}ms;\n"
        ));
    }
    text
}

/// The host's own file, as its other sites have it, else what Debian's says. `$http_host` is what the client wrote,
/// which need not be what it asked for: the port of the declaration is added instead.
fn headers(site: &Site, proxy_params: Option<&Path>) -> String {
    if let Some(file) = proxy_params {
        return format!("        include {};\n", file.display());
    }
    let usual = if site.tls.is_some() { HTTPS_PORT } else { HTTP_PORT };
    let port = if site.listen_port == usual { String::new() } else { format!(":{}", site.listen_port) };
    format!(
        "        proxy_set_header Host $host{port};
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
"
    )
}

/// Mozilla's intermediate configuration: what every browser of the last years speaks, and nothing weaker.
fn tls_directives(name: &str, tls: &SiteTls) -> String {
    format!(
        "    ssl_certificate {};
    ssl_certificate_key {};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ciphers {TLS_1_2_CIPHERS};
    ssl_prefer_server_ciphers off;
    ssl_session_cache shared:{name}_tls:1m;
    ssl_session_timeout 1d;
    ssl_session_tickets off;
",
        tls.certificate, tls.key
    )
}

/// Who asks without TLS is sent on; with 308 a POST stays one.
fn redirect(site: &Site, tls: &SiteTls, sizes: Sizes) -> String {
    let Some(from) = tls.redirect_from else { return String::new() };
    let Site { server_name, listen_port, .. } = site;
    let port = if *listen_port == HTTPS_PORT { String::new() } else { format!(":{listen_port}") };
    format!(
        "server {{
    listen {from};
    server_name {server_name};
{}    return 308 https://{server_name}{port}$request_uri;
}}
",
        sizes.request
    )
}

/// The digest of the site that this text was made from.
pub fn digest_of(text: &str) -> Option<Digest> {
    text.lines().next()?.strip_prefix(FIRST_LINE)?.parse().ok()
}

/// Whether a site of this text logs to `access_log`: one of an earlier version does not.
pub(super) fn has_access_log(text: &str, access_log: &Path) -> bool {
    let directive = format!("access_log {} ", access_log.display());
    text.lines().any(|line| line.trim_start().starts_with(&directive))
}

/// Where the site of this text is served.
pub fn address_of(text: &str) -> Option<Address> {
    let value = |directive: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(directive));
        line.map(|rest| rest.trim().trim_end_matches(';'))
    };
    let listen = value("listen ")?;
    let (port, scheme) = match listen.strip_suffix(" ssl") {
        Some(port) => (port, Scheme::Https),
        None => (listen, Scheme::Http),
    };
    Some(Address { scheme, server_name: value("server_name ")?.to_owned(), port: port.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::time::Millis;

    fn site(hosts: &[&str]) -> Site {
        let endpoints = |port| {
            hosts.iter().map(|address| Endpoint { address: (*address).to_owned(), port }).collect::<Vec<_>>()
        };
        Site {
            server_name: "notes.example".to_owned(),
            listen_port: 80,
            blue: endpoints(20_000),
            green: endpoints(20_001),
            body_limit: "10m".to_owned(),
            connect_timeout: Millis::from_secs(2),
            send_timeout: Millis::from_secs(60),
            read_timeout: Millis::from_secs(60),
            tls: None,
        }
    }

    fn with_tls(site: Site) -> Site {
        let tls = SiteTls {
            certificate: "/etc/ssl/notes.pem".to_owned(),
            key: "/etc/ssl/private/notes.key".to_owned(),
            redirect_from: Some(80),
        };
        Site { listen_port: 443, tls: Some(Box::new(tls)), ..site }
    }

    fn text(site: &Site, proxy_params: Option<&Path>) -> String {
        let paths = SitePaths {
            switch: Path::new("/l/traffic/green"),
            access_log: Path::new("/var/log/nginx/lockstep-notes.access.log"),
            additions: Path::new("/n/own.d"),
            proxy_params,
            sizes: Sizes::OURS,
            probe_secret: "abc",
        };
        render(&"my-notes/production".parse().unwrap(), site, &paths)
    }

    #[test]
    fn a_site_is_this_text() {
        insta::assert_snapshot!(text(&site(&["172.17.0.1"]), None));
    }

    #[test]
    fn a_site_of_several_hosts_passes_over_a_dead_one() {
        insta::assert_snapshot!(text(&site(&["10.0.0.1", "10.0.0.2"]), None));
    }

    #[test]
    fn a_site_with_a_certificate_sends_everybody_to_tls() {
        let proxy_params = Some(Path::new("/etc/nginx/proxy_params"));
        insta::assert_snapshot!(text(&with_tls(site(&["172.17.0.1"])), proxy_params));
    }

    #[test]
    fn a_site_has_one_test_for_the_slot_and_says_what_it_was_made_from() {
        let text = text(&site(&["172.17.0.1"]), None);
        assert_eq!(text.matches("if (-f ").count(), 1);
        assert!(text.contains("set $my__notes_production__slot my__notes_production__blue;"));
        assert!(text.contains("server 172.17.0.1:20001 max_fails=0;"));
        assert_eq!(digest_of(&text).unwrap().as_str().len(), 71);
        assert_eq!(digest_of("server {}"), None);
    }

    #[test]
    fn a_site_says_where_it_is_served() {
        let plain = site(&["172.17.0.1"]);
        let secure = with_tls(plain.clone());
        let elsewhere = Site { listen_port: 8443, ..secure.clone() };
        for site in [plain, secure, elsewhere] {
            assert_eq!(address_of(&text(&site, None)), Some(Address::of_site(&site)));
        }
        assert_eq!(address_of("server {}"), None);
    }

    #[test]
    fn who_asks_at_another_port_than_the_usual_is_told_so_by_the_host() {
        let usual = site(&["172.17.0.1"]);
        let elsewhere = Site { listen_port: 8080, ..usual.clone() };
        assert!(text(&usual, None).contains("proxy_set_header Host $host;"));
        assert!(text(&elsewhere, None).contains("proxy_set_header Host $host:8080;"));
        let redirected = Site { listen_port: 8443, ..with_tls(usual) };
        assert!(text(&redirected, None).contains("return 308 https://notes.example:8443$request_uri;"));
    }
}
