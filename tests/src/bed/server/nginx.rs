//! A private nginx: the binary of the system with a prefix, a configuration
//! and a pid file of its own. Sites are the files in `sites/`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::bed::files::{let_enter, we_are_root};
use crate::bed::program::run;
use crate::bed::wait::until;

const BINARY: &str = "/usr/sbin/nginx";
const WORKER: &str = "www-data";
const LIMIT: Duration = Duration::from_secs(10);

pub struct Nginx {
    prefix: PathBuf,
    server: Child,
}

impl Nginx {
    pub fn start(directory: &Path) -> anyhow::Result<Nginx> {
        for part in ["sites", "temp"] {
            let part = directory.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        let prefix = directory.canonicalize()?;
        let_enter(WORKER, &prefix)?;
        fs::write(prefix.join("nginx.conf"), configuration(&prefix))?;
        stop_what_was_left(&prefix)?;
        let errors = fs::File::create(prefix.join("standard-error.log"))?;
        let server = nginx(&prefix)
            // Not in the file, so that the file is like that of a real host.
            .args(["-g", "daemon off;"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {BINARY}: run `make setup`"))?;
        let mut nginx = Nginx { prefix, server };
        nginx.wait_until_it_runs()?;
        Ok(nginx)
    }

    pub fn binary(&self) -> &Path {
        Path::new(BINARY)
    }

    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    pub fn configuration(&self) -> PathBuf {
        self.prefix.join("nginx.conf")
    }

    pub fn sites_directory(&self) -> PathBuf {
        self.prefix.join("sites")
    }

    pub fn pid_file(&self) -> PathBuf {
        self.prefix.join("nginx.pid")
    }

    pub fn error_log(&self) -> PathBuf {
        self.prefix.join("error.log")
    }

    /// Writes a site, or writes it again, and reloads. The master does the
    /// rest in its own time: wait for what the site answers.
    pub fn install_site(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let file = self.sites_directory().join(format!("{name}.conf"));
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        run(nginx(&self.prefix).args(["-t", "-q"]))?;
        run(nginx(&self.prefix).args(["-s", "reload"]))?;
        Ok(())
    }

    /// The processes that serve. After a reload those from before close their idle connections, and end.
    ///
    /// # Errors
    /// When the master does not run.
    pub fn workers(&self) -> anyhow::Result<BTreeSet<u32>> {
        let pid = fs::read_to_string(self.pid_file())?;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children", pid = pid.trim()))?;
        children.split_whitespace().map(|pid| pid.parse().context("a process")).collect()
    }

    fn wait_until_it_runs(&mut self) -> anyhow::Result<()> {
        let pid_file = self.pid_file();
        let runs = until("nginx has written its pid file", LIMIT, || {
            if let Some(status) = self.server.try_wait()? {
                bail!("nginx ended with {status}");
            }
            // It is made empty first.
            Ok(fs::read_to_string(&pid_file).is_ok_and(|pid| !pid.trim().is_empty()))
        });
        let errors = self.prefix.join("standard-error.log");
        runs.with_context(|| fs::read_to_string(errors).unwrap_or_default())
    }
}

impl Drop for Nginx {
    #[expect(
        clippy::let_underscore_must_use,
        reason = "a test that fails should say why, and not that cleaning up failed"
    )]
    fn drop(&mut self) {
        // Only the master ends its workers, so it is asked before it is killed.
        let _ = run(nginx(&self.prefix).args(["-s", "stop"]));
        let server = &mut self.server;
        let _ = until("nginx has ended", LIMIT, || Ok(server.try_wait()?.is_some()));
        let _ = server.kill();
        let _ = server.wait();
    }
}

fn nginx(prefix: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command
        .arg("-p")
        .arg(prefix)
        .arg("-c")
        .arg(prefix.join("nginx.conf"))
        // Else it complains about the system's log, which may not be ours.
        .arg("-e")
        .arg(prefix.join("error.log"));
    command
}

#[expect(
    clippy::let_underscore_must_use,
    reason = "it fails where the master is dead already and left its file behind"
)]
fn stop_what_was_left(prefix: &Path) -> anyhow::Result<()> {
    let pid_file = prefix.join("nginx.pid");
    if pid_file.exists() {
        let _ = run(nginx(prefix).args(["-s", "stop"]));
        let _ = until("the nginx before has ended", LIMIT, || Ok(!pid_file.exists()));
        if pid_file.exists() {
            fs::remove_file(&pid_file).with_context(|| format!("cannot remove {}", pid_file.display()))?;
        }
    }
    Ok(())
}

fn configuration(prefix: &Path) -> String {
    let prefix = prefix.display();
    let user = if we_are_root() { format!("user {WORKER};\n") } else { String::new() };
    format!(
        "{user}worker_processes 2;
pid {prefix}/nginx.pid;
error_log {prefix}/error.log notice;
include /etc/nginx/modules-enabled/*.conf;

events {{
    worker_connections 4096;
}}

http {{
    access_log off;
    default_type text/plain;
    client_body_temp_path {prefix}/temp/body;
    proxy_temp_path {prefix}/temp/proxy;
    fastcgi_temp_path {prefix}/temp/fastcgi;
    uwsgi_temp_path {prefix}/temp/uwsgi;
    scgi_temp_path {prefix}/temp/scgi;
    include {prefix}/sites/*.conf;
}}
"
    )
}
