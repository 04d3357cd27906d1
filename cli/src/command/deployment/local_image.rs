//! An image that Docker on this machine has: described for a plan, and sent to an app host if no app host has it.
//!
//! What must stay true: only a few parts of it are in memory, and it is read no faster than the host takes it. An
//! export that Docker breaks off is never sent as complete.

use std::collections::BTreeMap;
use std::process::Stdio;

use lockstep_core::id::Digest;
use lockstep_core::image::RegistryName;
use lockstep_core::record::observed::ImageObservation;
use lockstep_proto::wire;
use lockstep_proto::wire::control_client::ControlClient;
use lockstep_proto::wire::image_sent::Sent;
use lockstep_runtime::migrations::Files;
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::context::Context;
use crate::failure::{Failure, Kind, Result};
use crate::output::Tone;

pub(super) const REVISION: &str = "org.opencontainers.image.revision";

/// The size of the part in one message.
const PART_BYTES: usize = 256 * 1024;

/// How many parts may be read and not sent yet.
const PARTS_MAX: usize = 4;

const MIB: u64 = 1024 * 1024;

/// The progress is shown after so many bytes.
const SHOWN_EVERY: u64 = 16 * MIB;

/// An image by the name that the operator typed.
pub(super) struct LocalImage {
    name: String,
    pub(super) id: Digest,
    commit: Option<String>,
    size_bytes: u64,
}

/// The fields of `docker image inspect` that are used.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: Digest,
    size: u64,
    #[serde(default)]
    config: Option<Config>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    labels: Option<BTreeMap<String, String>>,
}

impl LocalImage {
    /// The image of this name; `None` if this machine has no Docker or no such image, or if the name is of a registry,
    /// from which the hosts pull it.
    pub(super) async fn find(name: &str) -> Option<Self> {
        if RegistryName::named_by(name).is_some() {
            return None;
        }
        let inspect = ["image", "inspect", "--format", "{{json .}}", name];
        let output = Command::new("docker").args(inspect).output().await.ok()?;
        let Inspected { id, size, config } = serde_json::from_slice(&output.stdout).ok()?;
        let commit = config.and_then(|config| config.labels?.remove(REVISION));
        Some(Self { name: name.to_owned(), id, commit, size_bytes: size })
    }

    /// Describes the image with its migrations, which are read from a container that is created and never started.
    ///
    /// # Errors
    /// When Docker cannot read them.
    pub(super) async fn describe(&self, migrations_path: Option<&str>) -> Result<ImageObservation> {
        let migrations = match migrations_path {
            None => Vec::new(),
            Some(path) => {
                let files = Files::read(&self.folder(path).await?).map_err(|why| {
                    let what = format!("the migrations in {path} of {} cannot be read", self.name);
                    Failure::new(Kind::Refused, what).why(why)
                })?;
                files.migrations()
            }
        };
        let Self { name: _, id, commit, size_bytes } = self;
        Ok(ImageObservation {
            id: id.clone(),
            manifest: None,
            commit: commit.clone(),
            migrations,
            size_bytes: *size_bytes,
        })
    }

    /// A folder of the image as a tar archive; empty if the image has no such folder.
    async fn folder(&self, path: &str) -> Result<Vec<u8>> {
        let made = docker(&["create", self.id.as_str(), "/never-started"]).await?;
        let container = String::from_utf8_lossy(&made).trim().to_owned();
        let from = format!("{container}:{path}");
        let copied = docker(&["cp", &from, "-"]).await;
        docker(&["rm", &container]).await?;
        match copied {
            Err(failure)
                if failure.why.as_ref().is_some_and(|why| why.contains("Could not find the file")) =>
            {
                Ok(Vec::new())
            }
            copied => copied,
        }
    }

    /// Sends the image to an app host under a claim, and shows the progress.
    ///
    /// # Errors
    /// When Docker cannot export the image, or the host does not receive it.
    pub(super) async fn send(
        &self,
        context: &Context,
        mut control: ControlClient<Channel>,
        offer: wire::ImageOffer,
    ) -> Result<()> {
        let output = context.output;
        let mib = self.size_bytes.div_ceil(MIB);
        let Self { name, id, .. } = self;
        output.line(&format!(
            "no app host has image {name} ({}): sending {mib} MiB from this machine",
            id.short()
        ))?;
        let (sending, parts) = mpsc::channel(PARTS_MAX);
        let image = wire::ImageOffer { image: name.clone(), image_id: id.to_string(), ..offer };
        let sent = control.send_image(ReceiverStream::new(parts));
        let (read, answered) = futures::future::join(self.read(context, image, sending), sent).await;
        read?;
        let done = answered?.into_inner();
        output.line(&done.said)
    }

    /// Ends early if the receiver does: its reply says why.
    async fn read(
        &self,
        context: &Context,
        offer: wire::ImageOffer,
        to: mpsc::Sender<wire::ImageSent>,
    ) -> Result<()> {
        let send = async |sent| to.send(wire::ImageSent { sent: Some(sent) }).await.is_ok();
        let part = |bytes, last| Sent::Part(wire::ImagePart { transfer: String::new(), bytes, last });
        let mut docker = Command::new("docker")
            .args(["save", self.id.as_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| not_run(&error))?;
        let Some(mut saved) = docker.stdout.take() else { return Ok(()) };
        if !send(Sent::Offer(offer)).await {
            return Ok(());
        }
        let mut progress = SendProgress { total_bytes: self.size_bytes, sent_bytes: 0, shown_bytes: 0 };
        loop {
            let mut bytes = Vec::with_capacity(PART_BYTES);
            let length = (&mut saved).take(PART_BYTES as u64).read_to_end(&mut bytes).await;
            match length.map_err(|error| not_run(&error))? {
                0 => break,
                length => progress.add(context, length)?,
            }
            if !send(part(bytes, false)).await {
                return Ok(());
            }
        }
        let ended = docker.wait_with_output().await.map_err(|error| not_run(&error))?;
        if !ended.status.success() {
            return Err(refused("save", &ended.stderr));
        }
        send(part(Vec::new(), true)).await;
        Ok(())
    }
}

/// How much was sent, shown now and then.
struct SendProgress {
    total_bytes: u64,
    sent_bytes: u64,
    shown_bytes: u64,
}

impl SendProgress {
    fn add(&mut self, context: &Context, length: usize) -> Result<()> {
        self.sent_bytes += length as u64;
        if self.sent_bytes - self.shown_bytes < SHOWN_EVERY {
            return Ok(());
        }
        self.shown_bytes = self.sent_bytes;
        let output = context.output;
        output.json(&json!({ "sent_bytes": self.sent_bytes, "image_bytes": self.total_bytes }))?;
        // An archive is somewhat larger than its image.
        let (sent, all) = (self.sent_bytes / MIB, self.total_bytes.max(self.sent_bytes).div_ceil(MIB));
        output.line(&output.toned(Tone::Quiet, &format!("  | {sent} of {all} MiB")))
    }
}

/// The standard output of a Docker command.
async fn docker(arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new("docker").args(arguments).output().await.map_err(|error| not_run(&error))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(refused(arguments.first().copied().unwrap_or_default(), &output.stderr))
}

fn not_run(error: &std::io::Error) -> Failure {
    Failure::new(Kind::Refused, "docker cannot be run").why(error.to_string())
}

fn refused(command: &str, stderr: &[u8]) -> Failure {
    Failure::new(Kind::Refused, format!("docker {command} failed on this machine"))
        .why(String::from_utf8_lossy(stderr).trim().to_owned())
}
