//! The image of a project that says `build:`, made by this machine's Docker from the commit at HEAD.
//!
//! What must stay true: the environment is claimed before anything is built, and given back when nothing comes
//! of it; an image says by its labels which commit it is.

use std::collections::VecDeque;
use std::process::Stdio;

use lockstep_proto::wire;
use lockstep_proto::wire::control_client::ControlClient;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tonic::transport::Channel;

use crate::context::{Context, now};
use crate::failure::{Failure, Kind, Result};
use crate::output::Tone;

/// What is shown of a build that failed.
const TAIL_LINES: usize = 12;

const REVISION: &str = "org.opencontainers.image.revision";

/// What is built.
pub(super) struct Build {
    pub(super) image: String,
    pub(super) commit: String,
    pub(super) context: String,
    pub(super) dockerfile: String,
}

impl Build {
    /// Whether this machine's Docker has the image already, from this very commit.
    pub(super) async fn is_there(&self) -> bool {
        let format = format!("{{{{index .Config.Labels \"{REVISION}\"}}}}");
        let inspect =
            Command::new("docker").args(["image", "inspect", "--format", &format, &self.image]).output();
        inspect.await.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == self.commit)
    }

    /// Builds under a claim, which is given back when the build fails or is interrupted.
    ///
    /// # Errors
    /// When it fails, with the last lines of Docker.
    pub(super) async fn under(
        &self,
        context: &Context,
        control: &mut ControlClient<Channel>,
        claim: wire::DeploymentRef,
    ) -> Result<()> {
        let built = tokio::select! {
            built = self.run(context) => built,
            interrupted = tokio::signal::ctrl_c() => match interrupted {
                Ok(()) => Err(Failure::new(Kind::Interrupted, "the build was interrupted; nothing was deployed")),
                Err(error) => Err(Failure::new(Kind::Usage, "no interrupt can be heard").why(error.to_string())),
            },
        };
        let Err(failure) = built else { return Ok(()) };
        match control.unclaim(claim).await {
            Ok(_) => Err(failure),
            Err(status) => {
                let left = Failure::from(status);
                Err(failure
                    .next(format!("the environment is still claimed ({}): lockstep cancel ENV", left.what)))
            }
        }
    }

    async fn run(&self, context: &Context) -> Result<()> {
        let Self { image, commit, context: folder, dockerfile } = self;
        context.output.line(&format!("building {image} from {folder}"))?;
        let mut command = Command::new("docker");
        command
            .args(["build", "--tag", image, "--file"])
            .arg(context.directory().join(folder).join(dockerfile));
        for (name, value) in self.labels(commit, source(context).await) {
            command.arg("--label").arg(format!("org.opencontainers.image.{name}={value}"));
        }
        command.arg(context.directory().join(folder));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let cannot = |error: std::io::Error| {
            Failure::new(Kind::Refused, "docker cannot be run")
                .why(error.to_string())
                .next("apt-get install docker.io")
        };
        let mut child = command.spawn().map_err(cannot)?;
        let mut tail = VecDeque::new();
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Failure::new(Kind::Refused, "docker says nothing"));
        };
        let (mut out, mut err) = (BufReader::new(out).lines(), BufReader::new(err).lines());
        let (mut is_out, mut is_err) = (true, true);
        while is_out || is_err {
            let line = tokio::select! {
                line = out.next_line(), if is_out => { let line = line.map_err(cannot)?; is_out = line.is_some(); line }
                line = err.next_line(), if is_err => { let line = line.map_err(cannot)?; is_err = line.is_some(); line }
            };
            let Some(line) = line else { continue };
            context.output.line(&format!("  {}", context.output.toned(Tone::Quiet, &line)))?;
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(line);
        }
        if child.wait().await.map_err(cannot)?.success() {
            return Ok(());
        }
        let tail: Vec<String> = tail.into_iter().map(|line| format!("| {line}")).collect();
        Err(Failure::new(Kind::Refused, format!("{image} cannot be built"))
            .why(tail.join("\n       "))
            .next("mend it, commit, and deploy again; nothing was deployed, and the environment is free"))
    }

    /// <https://github.com/opencontainers/image-spec/blob/main/annotations.md>
    fn labels(&self, commit: &str, source: Option<String>) -> Vec<(&'static str, String)> {
        let version = self.image.rsplit(':').next().unwrap_or_default().to_owned();
        let mut labels =
            vec![("revision", commit.to_owned()), ("version", version), ("created", now().to_string())];
        labels.extend(source.map(|source| ("source", source)));
        labels
    }
}

/// Where the source is, without the password that such a URL may have.
async fn source(context: &Context) -> Option<String> {
    let output =
        Command::new("git").args(["remote", "get-url", "origin"]).current_dir(context.directory()).output();
    let url = output.await.ok().filter(|output| output.status.success())?.stdout;
    let url = String::from_utf8_lossy(&url).trim().to_owned();
    Some(match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}/{path}")
        }
        None => url,
    })
}
