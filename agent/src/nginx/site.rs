//! The text of an environment's site: from a [`Site`] and nothing else but where files are.
//!
//! Both slots are in it, and one test per request picks one: the green file is there, or it is blue
//! (measured: no request lost over a hundred switches, where a reload loses some every time).

use std::fmt::Write;
use std::path::Path;

use lockstep_core::id::Digest;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::action::{Endpoint, Site};

/// The header that asks nginx to say whence its answer came.
pub const PROBE_HEADER: &str = "X-Lockstep-Probe";
/// Which endpoint answered.
pub const UPSTREAM_HEADER: &str = "X-Lockstep-Upstream";
/// Which text of the site answered.
pub const SITE_HEADER: &str = "X-Lockstep-Site";

/// Where nginx's counters are, before the secret; only for this machine.
pub const STATUS_PATH: &str = "/.lockstep-status-";

/// What the first line of a site says before its digest.
const FIRST_LINE: &str =
    "# Made by Lockstep; put additions of your own into the folder that is included below. Site ";

/// Where the site's files are.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// There, or not: green, or blue.
    pub switch: &'a Path,
    /// One line for each request that no application answered.
    pub lost_log: &'a Path,
    /// An administrator's own additions.
    pub additions: &'a Path,
    /// Only who knows it is told whence an answer came.
    pub probe_secret: &'a str,
}

/// The site's text.
pub fn render(environment: &EnvironmentKey, site: &Site, places: &Places<'_>) -> String {
    let name = environment.dashed().replace('-', "_");
    let digest = site.digest();
    let Site { server_name, listen_port, blue, green, body_limit, read_timeout } = site;
    let Places { switch, lost_log, additions, probe_secret } = places;
    let mut text = format!("{FIRST_LINE}{digest}\n");
    text.push_str(&upstream(&format!("{name}_blue"), blue));
    text.push_str(&upstream(&format!("{name}_green"), green));
    write!(
        text,
        r#"map $http_upgrade ${name}_connection {{
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
map "$status:$upstream_bytes_received:${name}_site" ${name}_lost {{
    default 0;
    "~^50[24]:[-0, ]*:$" 1;
}}
log_format {name}_lost '$time_iso8601 $status $request_method';
server {{
    listen {listen_port};
    server_name {server_name};
    client_max_body_size {body_limit};
    access_log {lost} {name}_lost if=${name}_lost;
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
        proxy_set_header Host $http_host;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection ${name}_connection;
        proxy_read_timeout {read}ms;
    }}
    include {additions}/*.conf;
}}
"#,
        short = digest.short(),
        lost = lost_log.display(),
        switch = switch.display(),
        additions = additions.display(),
        read = read_timeout.0,
    )
    .expect("writing to a String cannot fail");
    text
}

fn upstream(name: &str, endpoints: &[Endpoint]) -> String {
    let mut text = format!("upstream {name} {{\n");
    for endpoint in endpoints {
        // A failed connection must not take the only server out for ten seconds.
        text.push_str(&format!("    server {endpoint} max_fails=0;\n"));
    }
    text.push_str("    keepalive 32;\n    keepalive_timeout 2s;\n}\n");
    text
}

/// The digest of the site that this text was made from.
pub fn digest_of(text: &str) -> Option<Digest> {
    text.lines().next()?.strip_prefix(FIRST_LINE)?.parse().ok()
}

/// Where the site of this text is served: its port and its name.
pub fn address_of(text: &str) -> Option<(u16, String)> {
    let value = |directive: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(directive));
        line.map(|rest| rest.trim().trim_end_matches(';'))
    };
    Some((value("listen ")?.parse().ok()?, value("server_name ")?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::time::Millis;

    fn text() -> String {
        let endpoint = |port| Endpoint { address: "172.17.0.1".to_owned(), port };
        let site = Site {
            server_name: "notes.example".to_owned(),
            listen_port: 80,
            blue: vec![endpoint(20_000)],
            green: vec![endpoint(20_001)],
            body_limit: "10m".to_owned(),
            read_timeout: Millis::from_secs(60),
        };
        let places = Places {
            switch: Path::new("/l/traffic/green"),
            lost_log: Path::new("/l/lost.log"),
            additions: Path::new("/n/own.d"),
            probe_secret: "abc",
        };
        render(&"my-notes/production".parse().unwrap(), &site, &places)
    }

    #[test]
    fn a_site_is_this_text() {
        insta::assert_snapshot!(text());
    }

    #[test]
    fn a_site_has_one_test_for_the_slot_and_says_what_it_was_made_from() {
        let text = text();
        assert_eq!(text.matches("if (-f ").count(), 1);
        assert!(text.contains("set $my_notes_production_slot my_notes_production_blue;"));
        assert!(text.contains("server 172.17.0.1:20001 max_fails=0;"));
        assert_eq!(digest_of(&text).unwrap().as_str().len(), 71);
        assert_eq!(digest_of("server {}"), None);
        assert_eq!(address_of(&text), Some((80, "notes.example".to_owned())));
    }
}
