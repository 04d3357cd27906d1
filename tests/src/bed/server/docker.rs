//! The machine's Docker, by its command line: not through the client library
//! that the agent uses, so that a mistake there does not hide itself.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use lockstep_core::id::Digest;

use anyhow::Context;

use crate::bed::program::run;

#[derive(Clone, Copy, Debug)]
pub struct Docker;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub image: String,
    /// As Docker calls it: `running`, `exited`, `created`, `paused`.
    pub state: String,
}

/// A container of the example application.
pub struct NotesContainer<'a> {
    pub name: &'a str,
    pub image: &'a str,
    /// `key=value`, to find it again.
    pub label: &'a str,
    pub database_url: &'a str,
    pub runs: NotesProcess,
}

pub enum NotesProcess {
    Web { address: IpAddr, port: u16 },
    Worker,
}

impl Docker {
    /// The proof that a daemon answers.
    pub fn check() -> anyhow::Result<Docker> {
        run(Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]))
            .context("no Docker daemon answers: run `make setup`")?;
        Ok(Docker)
    }

    /// The address by which containers of the default network reach this host.
    pub fn bridge_address(self) -> anyhow::Result<IpAddr> {
        let format = "{{range .IPAM.Config}}{{.Gateway}};{{.Subnet}} {{end}}";
        let answer = self.docker(["network", "inspect", "bridge", "--format", format])?;
        let first = answer.split_whitespace().next().context("Docker's network `bridge` has no subnet")?;
        let (gateway, subnet) = first.split_once(';').unwrap_or((first, ""));
        if let Ok(named) = gateway.parse() {
            return Ok(named);
        }
        // An engine that has made the network in its first run does not name the gateway: it is the first address.
        let base = subnet.split('/').next().and_then(|base| base.parse::<Ipv4Addr>().ok());
        let base = base.with_context(|| format!("Docker's bridge has no address but {first:?}"))?;
        Ok(Ipv4Addr::from_bits(base.to_bits() + 1).into())
    }

    /// Builds the example application and its image; gives the image's id.
    pub fn build_notes(self, tag: &str, schema: u32, environment: &[(&str, &str)]) -> anyhow::Result<String> {
        let mut command = Command::new(notes_directory().join("image.sh"));
        // Every release has a commit of its own, as releases do.
        let commit =
            format!("org.opencontainers.image.revision={}", &Digest::of_content(tag.as_bytes()).hex()[..40]);
        command.args([tag, "--schema", &schema.to_string(), "--label", &commit]);
        for (key, value) in environment {
            command.arg("--env").arg(format!("{key}={value}"));
        }
        run(&mut command).with_context(|| format!("cannot build {tag}"))
    }

    /// An image on top of `base`, with these files added to its migrations.
    pub fn build_with_migrations(
        self,
        tag: &str,
        base: &str,
        migrations: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        let context = tempfile::tempdir()?;
        let folder = context.path().join("migrations");
        fs::create_dir(&folder)?;
        for (name, sql) in migrations {
            fs::write(folder.join(name), sql)?;
        }
        let version = tag.rsplit(':').next().unwrap_or(tag);
        let commit = Digest::of_content(tag.as_bytes());
        let commit = &commit.hex()[..40];
        let dockerfile = format!(
            "FROM {base}\nCOPY migrations /migrations\nENV NOTES_VERSION={version}\n\
             LABEL org.opencontainers.image.revision={commit}\n"
        );
        fs::write(context.path().join("Dockerfile"), dockerfile)?;
        // Files that root made with a private umask could not be read by the image's user.
        run(Command::new("chmod").args(["-R", "a+rX"]).arg(context.path()))?;
        let mut build = Command::new("docker");
        // The builder that Debian's Docker has; a newer client only warns of its age.
        build.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--network", "none", "--tag", tag]);
        run(build.arg(context.path())).with_context(|| format!("cannot build {tag}"))
    }

    /// Starts it and gives its id. The URL goes by the environment of the
    /// client, because arguments are seen by everybody.
    pub fn start_notes(self, container: &NotesContainer<'_>) -> anyhow::Result<String> {
        let mut command = Command::new("docker");
        command
            .env("DATABASE_URL", container.database_url)
            .args(["run", "--detach", "--env", "DATABASE_URL"])
            .args(["--name", container.name, "--label", container.label]);
        match container.runs {
            NotesProcess::Web { address, port } => {
                let publish = format!("{address}:{port}:8080");
                command.args(["--publish", &publish, container.image, "serve"])
            }
            NotesProcess::Worker => command.args([container.image, "work"]),
        };
        run(&mut command).with_context(|| format!("cannot start {}", container.name))
    }

    /// Every container with that label (`key` or `key=value`), in any state.
    pub fn containers(self, label: &str) -> anyhow::Result<Vec<Container>> {
        let filter = format!("label={label}");
        let format = "{{.ID}}\t{{.Names}}\t{{.Image}}\t{{.State}}";
        let lines = self.docker(["ps", "--all", "--no-trunc", "--filter", &filter, "--format", format])?;
        lines.lines().map(container).collect()
    }

    /// With their anonymous volumes.
    pub fn remove_containers(self, label: &str) -> anyhow::Result<()> {
        for container in self.containers(label)? {
            self.docker(["rm", "--force", "--volumes", &container.id])?;
        }
        Ok(())
    }

    /// Volumes whose names begin so.
    pub fn remove_volumes(self, prefix: &str) -> anyhow::Result<()> {
        let filter = format!("name=^{prefix}");
        for volume in self.docker(["volume", "ls", "--quiet", "--filter", &filter])?.lines() {
            self.docker(["volume", "rm", volume])?;
        }
        Ok(())
    }

    /// One that is not there is fine.
    pub fn remove_image(self, tag: &str) -> anyhow::Result<()> {
        if self.docker(["images", "--quiet", tag])?.is_empty() {
            return Ok(());
        }
        self.docker(["image", "rm", "--force", tag]).map(|_| ())
    }

    /// What the container wrote to standard output.
    pub fn logs(self, container: &str) -> anyhow::Result<String> {
        self.docker(["logs", container])
    }

    /// Any other command.
    pub fn docker<'a>(self, arguments: impl IntoIterator<Item = &'a str>) -> anyhow::Result<String> {
        run(Command::new("docker").args(arguments))
    }
}

/// The example application's folder.
pub fn notes_directory() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.with_file_name("deploy").join("examples/notes")
}

fn container(line: &str) -> anyhow::Result<Container> {
    let mut columns = line.split('\t').map(str::to_owned);
    let mut column =
        || columns.next().with_context(|| format!("docker ps wrote a line that is not understood: {line:?}"));
    Ok(Container { id: column()?, name: column()?, image: column()?, state: column()? })
}
