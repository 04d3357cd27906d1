//! `build:` of a declaration: Docker on this machine builds the image of the commit at HEAD.
//!
//! What must stay true: the environment is claimed before anything is built. If anything fails before the deployment
//! has begun, the claim is released. One commit is built once, so that the plan that was read is the plan that runs.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use lockstep_core::name::EnvironmentKey;
use lockstep_proto::wire;
use lockstep_proto::wire::control_client::ControlClient;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tonic::transport::Channel;

use super::git::git;
use super::local_image::REVISION;
use crate::clock::now;
use crate::context::Context;
use crate::deployment_yml::DeclaredEnvironment;
use crate::failure::{Failure, Kind, Result};
use crate::output::Tone;

/// How many of Docker's last lines are in the error.
const LAST_LINES: usize = 12;

/// How far the reader of Docker's output may be behind.
const LINES_MAX: usize = 64;

/// The label that says what an image was built from: environments may build one commit differently.
const BUILT_FROM: &str = "lockstep.built-from";

/// An image and what it is built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BuildSource {
    pub(super) tag: String,
    commit: String,
    /// The checkout's content, as git knows it.
    tree: String,
    version: String,
    origin: Option<String>,
    /// The folder of deployment.yml, from which the others count.
    folder: PathBuf,
    context: String,
    dockerfile: String,
}

impl BuildSource {
    /// What would be built from `folder`, by the commit at HEAD.
    ///
    /// # Errors
    /// When the checkout does not say which commit it is, or has changes that no commit has.
    pub(super) fn resolve(
        context: &Context,
        declared: &DeclaredEnvironment,
        folder: &str,
        dockerfile: &str,
    ) -> Result<Self> {
        let no_commit = || {
            Failure::new(Kind::Refused, "there is no commit to build")
                .why("this directory is not in a git checkout, or the checkout has no commit")
                .next("commit the project with git, or build the image yourself and pass it with --image")
        };
        let commit = git(context, &["rev-parse", "HEAD"]).ok_or_else(no_commit)?;
        let tree = git(context, &["rev-parse", "HEAD^{tree}"]).ok_or_else(no_commit)?;
        let short = commit.get(..7).ok_or_else(no_commit)?;
        if git(context, &["status", "--porcelain"]).is_some_and(|changes| !changes.is_empty()) {
            return Err(Failure::new(Kind::Refused, "the checkout has uncommitted changes")
                .why(format!("an image tagged {short} would not match the commit {short}"))
                .next("commit them, or list them in .gitignore, or pass an image with --image"));
        }
        Ok(Self {
            tag: format!("{}:{short}", declared.spec.key.application),
            version: git(context, &["describe", "--tags", "--always"]).unwrap_or_else(|| short.to_owned()),
            origin: git(context, &["remote", "get-url", "origin"]).map(|origin| without_user(&origin)),
            commit,
            tree,
            folder: declared.folder.clone(),
            context: folder.to_owned(),
            dockerfile: dockerfile.to_owned(),
        })
    }

    fn built_from(&self) -> String {
        format!("{} in {}", self.dockerfile, self.context)
    }

    /// Whether Docker has the image, built from exactly this commit.
    pub(super) async fn is_built(&self) -> bool {
        let format =
            format!("{{{{index .Config.Labels {REVISION:?}}}}}\n{{{{index .Config.Labels {BUILT_FROM:?}}}}}");
        let output =
            Command::new("docker").args(["image", "inspect", "--format", &format, &self.tag]).output().await;
        output.is_ok_and(|output| {
            output.status.success()
                && String::from_utf8_lossy(&output.stdout).trim()
                    == format!("{}\n{}", self.commit, self.built_from())
        })
    }

    /// Shows what a plan can say before the image is built.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub(super) fn show_command(&self, context: &Context, environment: &EnvironmentKey) -> Result<()> {
        let output = context.output;
        output.json(&json!({ "environment": environment, "image": self.tag, "image_is": "to be built",
                             "commit": self.commit, "source": self.tree }))?;
        output.line(&format!("{}  {environment}", output.toned(Tone::Strong, "deploy")))?;
        output.line(&format!("image {}, to be built from {}", self.tag, self.built_from()))?;
        output.line(&format!("source: tree {} of commit {}", self.tree, self.commit))?;
        output.line("The steps are planned after the build, because the image contains the migrations.")?;
        output.next(&format!("lockstep deploy {environment}    # builds it first"))
    }

    fn command(&self) -> Command {
        let mut labels = vec![
            format!("{REVISION}={}", self.commit),
            format!("org.opencontainers.image.created={}", now()),
            format!("org.opencontainers.image.version={}", self.version),
            format!("{BUILT_FROM}={}", self.built_from()),
        ];
        labels.extend(self.origin.as_ref().map(|origin| format!("org.opencontainers.image.source={origin}")));
        let mut command = Command::new("docker");
        command.current_dir(&self.folder).args(["build", "--tag", &self.tag]);
        command.arg("--file").arg(Path::new(&self.context).join(&self.dockerfile));
        labels.iter().for_each(|label| {
            command.args(["--label", label]);
        });
        command.arg(&self.context);
        command
    }
}

/// A remote's address without the password that some have in it.
fn without_user(origin: &str) -> String {
    match origin.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            format!("{scheme}://{host}/{path}")
        }
        // As ssh writes it, where a user is no secret and there is no password.
        None => origin.to_owned(),
    }
}

/// The claim of this command on an environment, until the build has become a deployment.
pub(super) struct Claim {
    pub(super) deployment: String,
    pub(super) environment: EnvironmentKey,
    pub(super) control: ControlClient<Channel>,
}

impl Claim {
    /// Does `work` under the claim; if it fails or is interrupted, the claim is released.
    ///
    /// # Errors
    /// As `work`, and when this command is interrupted.
    pub(super) async fn hold<T>(mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let worked = tokio::select! {
            worked = work => worked,
            signal = stop_signal() => Err(match signal {
                Ok(signal) => Failure::new(Kind::Interrupted, format!("the build was interrupted by {signal}")),
                Err(error) => Failure::new(Kind::Refused, "signals cannot be received").why(error.to_string()),
            }),
        };
        match worked {
            Ok(value) => Ok(value),
            Err(failure) => Err(self.release(failure).await),
        }
    }

    /// Releases the claim after `failure`, and adds what the operator must know of the lock.
    async fn release(&mut self, failure: Failure) -> Failure {
        let name = &self.environment;
        let claim = wire::DeploymentRef {
            deployment: self.deployment.clone(),
            environment: self.environment.to_string(),
        };
        match self.control.unclaim(claim).await.map_err(Failure::from) {
            Ok(_) if failure.kind == Kind::Interrupted => failure
                .why("nothing was deployed, and the environment is unlocked")
                .next(format!("lockstep deploy {name}")),
            Ok(_) => failure,
            // The claim has ended: it became a deployment at the moment of the interrupt, or somebody cancelled it.
            Err(Failure { kind: Kind::Refused | Kind::Locked, .. }) if failure.kind == Kind::Interrupted => {
                failure
                    .why("the build may have become a deployment, which continues")
                    .next(format!("lockstep watch {}", self.deployment))
                    .or(format!("lockstep cancel {name}"))
            }
            Err(Failure { kind: Kind::Refused | Kind::Locked, .. }) => failure,
            Err(unanswered) => failure.next(format!(
                "lockstep cancel {name}    # it may stay locked until lock_timeout: {}",
                unanswered.what
            )),
        }
    }
}

async fn stop_signal() -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// Builds the image and shows Docker's output. Dropping the future stops the build.
///
/// # Errors
/// When it cannot be built, with Docker's last lines.
pub(super) async fn build(
    context: &Context,
    declared: &DeclaredEnvironment,
    source: &BuildSource,
) -> Result<()> {
    warn_of_secrets(context, declared, source);
    let output = context.output;
    output.line(&format!("building image {} from {}", source.tag, source.built_from()))?;
    let mut docker = source
        .command()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            Failure::new(Kind::Refused, "docker cannot be run")
                .why(error.to_string())
                .next("install Docker here, or build the image elsewhere and pass it with --image")
        })?;
    let (sender, lines) = mpsc::channel(LINES_MAX);
    let (stdout, stderr) = (docker.stdout.take(), docker.stderr.take());
    let read = async {
        futures::future::join(read_lines(stdout, sender.clone()), read_lines(stderr, sender)).await;
        Ok(())
    };
    let ((), last) = futures::future::try_join(read, show_lines(context, lines)).await?;
    let status = docker.wait().await.map_err(|error| {
        Failure::new(Kind::Refused, "the exit code of docker is unknown").why(error.to_string())
    })?;
    if status.success() {
        return Ok(());
    }
    let last: String = last.iter().map(|line| format!("\n       | {line}")).collect();
    Err(Failure::new(Kind::Refused, format!("the image {} cannot be built", source.tag))
        .why(format!("docker build failed ({status}); its last lines:{last}"))
        .next("fix the build and commit; nothing was deployed, and the environment is unlocked"))
}

/// Shows each line, and returns the last ones.
async fn show_lines(context: &Context, mut lines: mpsc::Receiver<String>) -> Result<VecDeque<String>> {
    let output = context.output;
    let mut last = VecDeque::new();
    while let Some(line) = lines.recv().await {
        output.json(&json!({ "build": line }))?;
        output.verbatim(&output.toned(Tone::Quiet, &format!("  | {line}")))?;
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    Ok(last)
}

async fn read_lines(stream: Option<impl AsyncRead + Unpin>, sender: mpsc::Sender<String>) {
    let Some(stream) = stream else { return };
    let mut lines = BufReader::new(stream).split(b'\n');
    // Output that cannot be read is not shown; the exit code says how the build ended.
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if sender.send(line).await.is_err() {
            return;
        }
    }
}

/// Warns if `COPY . .` would copy the file of secrets into the image.
fn warn_of_secrets(context: &Context, declared: &DeclaredEnvironment, source: &BuildSource) {
    let root = source.folder.join(&source.context);
    let (Ok(root), Ok(file)) = (root.canonicalize(), declared.env_file.canonicalize()) else { return };
    let ignored = std::fs::read_to_string(root.join(".dockerignore")).unwrap_or_default();
    if file.starts_with(&root) && !ignores_env_files(&ignored) {
        context.output.remark(&format!(
            "note: {} is in the build context, so `COPY . .` copies it into the image; add .env* to {}",
            file.display(),
            root.join(".dockerignore").display()
        ));
    }
}

fn ignores_env_files(dockerignore: &str) -> bool {
    dockerignore.lines().map(str::trim).any(|line| {
        let pattern = line.trim_start_matches("**/").trim_start_matches('/');
        pattern == "*" || pattern.starts_with(".env") || pattern.starts_with(".*")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_is_named_without_its_password() {
        assert_eq!(
            without_user("https://anna:canary@git.example/notes.git"),
            "https://git.example/notes.git"
        );
        assert_eq!(without_user("https://git.example/a@b"), "https://git.example/a@b");
        assert_eq!(without_user("git@git.example:notes.git"), "git@git.example:notes.git");
    }

    #[test]
    fn secrets_stay_out_where_the_ignore_file_says_so() {
        for (ignored, text) in [
            (true, ".env*\n"),
            (true, "target\n**/.env.production\n"),
            (true, "*\n!src\n"),
            (false, ""),
            (false, "target\n"),
        ] {
            assert_eq!(ignores_env_files(text), ignored, "{text:?}");
        }
    }
}
