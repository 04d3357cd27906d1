//! What answers where nginx should say which site it serves: nginx's own counters, or anything else at that port.
#![no_main]

use std::cell::OnceCell;
use std::fs;
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use lockstep_agent::nginx::Nginx;
use lockstep_agent::program::settings::NginxSettings;
use lockstep_core::id::Digest;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::object_name::ObjectName;
use lockstep_core::run::limits::TEXT_BYTES_MAX;
use lockstep_fuzz::{Server, folder};
use tempfile::TempDir;

/// Who knows it may ask for the ports behind nginx.
const SECRET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

struct Host {
    server: Server,
    nginx: Nginx,
    environment: EnvironmentKey,
    _folder: TempDir,
}

thread_local! {
    static HOST: OnceCell<Host> = const { OnceCell::new() };
}

fuzz_target!(|answer: &[u8]| {
    HOST.with(|kept| {
        let host = kept.get_or_init(start);
        let installed = Digest::of_content(b"a site");
        let asked = host.nginx.not_served(&host.environment, &installed);
        let Some(why) = host.server.answer_with(answer, asked) else {
            let digest = installed.short().as_bytes();
            assert!(answer.windows(digest.len()).any(|window| window == digest), "no answer named the site");
            return;
        };
        assert!(why.len() <= TEXT_BYTES_MAX, "{why}");
        assert!(!why.contains(SECRET), "{why}");
    });
});

/// A host with an installed site at the port of the server.
fn start() -> Host {
    let (server, folder) = (Server::start(), folder());
    let environment: EnvironmentKey = "notes/production".parse().expect("a key");
    let name = ObjectName::encode(&environment);
    let traffic = folder.path().join("traffic");
    fs::create_dir_all(traffic.join(name.as_str())).expect("a folder");
    let site = format!("server {{\n    listen {};\n    server_name notes.example;\n}}\n", server.port());
    fs::write(traffic.join(name.as_str()).join("site.installed"), site).expect("a file");
    fs::write(traffic.join("probe.secret"), SECRET).expect("a file");
    let settings = NginxSettings {
        binary: PathBuf::from("/nonexistent/nginx"),
        configuration: folder.path().join("nginx.conf"),
        sites: folder.path().join("sites"),
        logs: folder.path().join("logs"),
    };
    let names = [(environment.clone(), name)].into_iter().collect();
    Host { server, nginx: Nginx::new(&settings, traffic, names), environment, _folder: folder }
}
