//! A private registry of images, as Debian packages it: over TLS with a certificate of its own authority, which
//! the machine's Docker is made to trust, and with one user. On the address of Docker's bridge: on loopback
//! Docker would not look at the certificate.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::bed::files::write_private;
use crate::bed::ports::free_port;
use crate::bed::program::process::Process;
use crate::bed::program::{run, run_with_input};
use crate::bed::server::certificates::Certificates;
use crate::bed::server::docker::Docker;

const SERVER: &str = "docker-registry";
const READY_LIMIT: Duration = Duration::from_secs(30);

/// Where Docker looks for the authorities of registries, each in a folder of its name.
const TRUST: &str = "/etc/docker/certs.d";

pub struct Registry {
    pub address: SocketAddr,
    docker: Docker,
    /// The settings of the test's own Docker client: it logs in with them, and nobody else does.
    client: PathBuf,
    trust: PathBuf,
    _process: Process,
    _directory: TempDir,
}

impl Registry {
    /// Starts it, and lets this user in. Dropped after what runs its images, it takes them from Docker.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(username: &str, password: &str) -> Result<Self> {
        let kept = TempDir::new()?;
        let directory = kept.path();
        let docker = Docker::check()?;
        let ip = docker.bridge_address()?;
        let address = SocketAddr::new(ip, free_port(ip)?);
        let certificates = Certificates::make_for(directory, "registry", &[ip.to_string()])?;
        let users = run_with_input(Command::new("htpasswd").args(["-n", "-i", "-B", username]), password)?;
        write_private(&directory.join("users"), &format!("{users}\n"))?;
        let settings = format!(
            "version: 0.1\n\
             log: {{ level: warn }}\n\
             storage: {{ filesystem: {{ rootdirectory: {images:?} }} }}\n\
             http: {{ addr: {address:?}, tls: {{ certificate: {certificate:?}, key: {key:?} }} }}\n\
             auth: {{ htpasswd: {{ realm: registry, path: {users:?} }} }}\n",
            images = directory.join("images"),
            address = address.to_string(),
            certificate = certificates.certificate,
            key = certificates.key,
            users = directory.join("users"),
        );
        let file = directory.join("registry.yml");
        fs::write(&file, settings)?;
        let mut process =
            Process::start(Command::new(SERVER).arg("serve").arg(&file), &directory.join("registry.log"))
                .context("is there a docker-registry? make setup")?;
        process.wait_until("the registry listens", READY_LIMIT, || {
            Ok(std::net::TcpStream::connect(address).is_ok())
        })?;
        let trust = Path::new(TRUST).join(address.to_string());
        let registry = Self {
            address,
            docker,
            client: directory.join("client"),
            trust,
            _process: process,
            _directory: kept,
        };
        fs::create_dir_all(&registry.trust)?;
        fs::copy(&certificates.authority, registry.trust.join("ca.crt"))?;
        let login = ["login", "--username", username, "--password-stdin", &address.to_string()];
        run_with_input(registry.client().args(login), password)?;
        Ok(registry)
    }

    /// The name under which hosts pull.
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    /// Puts an image that Docker has into the registry as `name`, and takes both names from Docker: then it has
    /// it no more, unless something runs it.
    ///
    /// # Errors
    /// When the registry or Docker refuses.
    pub fn take(&self, image: &str, name: &str) -> Result<String> {
        let there = self.put(image, name)?;
        self.docker.remove_image(&there)?;
        self.docker.remove_image(image)?;
        Ok(there)
    }

    /// As [`Registry::take`]; Docker keeps it under its own name.
    ///
    /// # Errors
    /// When the registry or Docker refuses.
    pub fn put(&self, image: &str, name: &str) -> Result<String> {
        let there = format!("{}/{name}", self.address);
        self.docker.docker(["tag", image, &there])?;
        run(self.client().args(["push", "--quiet", &there]))?;
        Ok(there)
    }

    fn client(&self) -> Command {
        let mut command = Command::new("docker");
        command.arg("--config").arg(&self.client);
        command
    }
}

impl Drop for Registry {
    #[expect(clippy::let_underscore_must_use, reason = "a test that fails should say why, and not this")]
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.trust);
        let all = format!("{}/*", self.address);
        for image in self.docker.docker(["images", "--quiet", "--no-trunc", &all]).unwrap_or_default().lines()
        {
            let _ = self.docker.docker(["image", "rm", "--force", image]);
        }
    }
}
