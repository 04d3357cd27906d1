//! Brings an image to this host, under the id in the plan.

use std::time::Duration;

use futures::StreamExt;
use lockstep_core::id::Digest;
use lockstep_core::image::{self, Login, RegistryName};
use lockstep_core::plan::action::{PreflightApp, PresentImage};
use lockstep_core::run::journal::{Finding, StepFailure};

use super::{Executors, Work, deploy_again, docker_failed, finding};
use crate::docker::DockerError;
use crate::session::images::TransferClient;

/// How often a transfer is tried, and the wait in between: an agent reconnects to another coordinator in seconds.
const ATTEMPTS_MAX: usize = 5;
const AGAIN_AFTER: Duration = Duration::from_secs(3);

const MIB: usize = 1024 * 1024;

/// The progress of a transfer is shown after each of these.
const REPORT_EVERY_BYTES: usize = 8 * MIB;

impl Executors {
    pub(super) async fn present_image(
        &self,
        work: &Work,
        present: &PresentImage,
    ) -> Result<Finding, StepFailure> {
        let PresentImage { image, image_id: id, manifest } = present;
        if self.has_image(id).await? {
            return Ok(finding("already on this host"));
        }
        let transferred = async {
            match manifest {
                Some(manifest) => self.pull_pinned(work, image, manifest).await,
                None => self.receive(work, present).await,
            }
        };
        let (name, how) = tokio::select! {
            result = transferred => result?,
            () = work.cancel.cancelled() => return Err(StepFailure::new("it stopped before it was done")),
        };
        match self.docker.image(&name).await.map_err(docker_failed)? {
            Some(found) if found.id == *id => Ok(finding(how)),
            Some(found) => Err(StepFailure::new(format!("{name} is not the image of the plan"))
                .why(format!("{name} is {} now, and the plan has {}", found.id.short(), id.short()))
                .next(deploy_again(&work.environment))),
            None => Err(StepFailure::new(format!("the image {name} is missing after its transfer"))),
        }
    }

    /// Pulls the image by its manifest. Returns its name, and the text of the finding.
    async fn pull_pinned(
        &self,
        work: &Work,
        image: &str,
        manifest: &Digest,
    ) -> Result<(String, &'static str), StepFailure> {
        let on_status = |state: &str| work.output.line(state);
        let pulled = self.docker.pull_manifest(image, manifest, work.login.as_ref(), on_status).await;
        pulled.map_err(docker_failed)?;
        Ok((image::pinned(image, manifest), "pulled"))
    }

    /// Receives the image from a host that has it, through a coordinator. If no host has it, pulls it by its name. A
    /// transfer that fails, for example because its coordinator stops, is tried again.
    async fn receive(
        &self,
        work: &Work,
        present: &PresentImage,
    ) -> Result<(String, &'static str), StepFailure> {
        let PresentImage { image, image_id: id, .. } = present;
        let mut last_error = None;
        for _ in 0..ATTEMPTS_MAX {
            if let Some(why) = &last_error {
                work.output.line(&format!("the transfer failed: {why}"));
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            match self.receive_once(work, present).await {
                Ok(ImageSource::Received) => return Ok((id.to_string(), "received from another host")),
                // Who has it may not be back yet at a coordinator that has just begun.
                Ok(ImageSource::NobodyHasIt) if last_error.is_some() => {}
                Ok(ImageSource::NobodyHasIt) => {
                    let pulled = self.docker.pull(image, None, |state| work.output.line(state)).await;
                    pulled.map_err(|error| {
                        let next = format!("docker pull {image}, or build it on a host of the cluster");
                        docker_failed(error).next(next)
                    })?;
                    return Ok((image.clone(), "pulled"));
                }
                Err(why) => last_error = Some(why),
            }
        }
        Err(StepFailure::new(format!("the image {image} could not be received from another host"))
            .why(last_error.unwrap_or_default())
            .next(format!("{}; or load it on this host: docker load", deploy_again(&work.environment))))
    }

    async fn receive_once(
        &self,
        work: &Work,
        PresentImage { image, image_id: id, .. }: &PresentImage,
    ) -> Result<ImageSource, String> {
        let Some(parts) = work.transfer_client.receive(id).await? else {
            return Ok(ImageSource::NobodyHasIt);
        };
        let output = work.output.clone();
        let mut progress = TransferProgress::default();
        let parts = parts.inspect(move |part| {
            if let Some(line) = part.as_ref().ok().and_then(|bytes| progress.add(bytes.len())) {
                output.line(&line);
            }
        });
        self.docker.load(parts, (id, image)).await.map_err(describe)?;
        Ok(ImageSource::Received)
    }

    /// Checks, before anything starts, that the registry has the image for this host.
    pub(super) async fn preflight_image(&self, work: &Work, app: &PreflightApp) -> Result<(), StepFailure> {
        let Some(manifest) = &app.manifest else { return Ok(()) };
        if self.has_image(&app.image_id).await? {
            return Ok(());
        }
        let pinned = image::pinned(&app.image, manifest);
        self.docker.manifest(&pinned, work.login.as_ref()).await.map_err(docker_failed)?;
        work.output.line(&format!("{} has {pinned} for this host", RegistryName::of_image(&app.image)));
        Ok(())
    }

    async fn has_image(&self, id: &Digest) -> Result<bool, StepFailure> {
        Ok(self.docker.image(id.as_str()).await.map_err(docker_failed)?.is_some())
    }

    /// Checks that the registry accepts the login.
    ///
    /// # Errors
    /// When it does not, as text.
    pub async fn log_in(&self, registry: &RegistryName, login: Option<&Login>) -> Result<(), String> {
        let login = login.ok_or_else(|| format!("no login for {registry} is stored"))?;
        self.docker.log_in(login).await.map_err(describe)
    }

    /// Pulls exactly this manifest.
    ///
    /// # Errors
    /// When the registry or the engine refuses, as text.
    pub async fn fetch(&self, image: &str, manifest: &Digest, login: Option<&Login>) -> Result<(), String> {
        self.docker.pull_manifest(image, manifest, login, |_| ()).await.map_err(describe)
    }

    /// Receives the image that an operator sends to this host, unless the host has it already.
    ///
    /// # Errors
    /// When the transfer fails, or brings another image, as text.
    pub async fn receive_sent_image(
        &self,
        image: (&Digest, &str),
        transfer: (&str, &str),
        client: &TransferClient,
    ) -> Result<(), String> {
        let (id, name) = image;
        if self.docker.image(id.as_str()).await.map_err(describe)?.is_some() {
            return self.docker.tag(id, name).await.map_err(describe);
        }
        self.docker.load(client.receive_sent(id, transfer).await?, image).await.map_err(describe)
    }

    /// Sends an image to the receiver of a transfer.
    ///
    /// # Errors
    /// When this host does not have the image, or the transfer fails, as text.
    pub async fn send_image(
        &self,
        id: &Digest,
        to: (&str, &str),
        client: &TransferClient,
    ) -> Result<(), String> {
        client.send(to, self.docker.save(id).await.map_err(describe)?).await
    }
}

fn describe(error: DockerError) -> String {
    match error.detail() {
        detail if detail.is_empty() => error.to_string(),
        detail => format!("{error}: {detail}"),
    }
}

/// The result of asking the other hosts for an image.
enum ImageSource {
    Received,
    NobodyHasIt,
}

/// The progress of a transfer, reported from time to time.
#[derive(Default)]
struct TransferProgress {
    bytes: usize,
    reported: usize,
}

impl TransferProgress {
    fn add(&mut self, bytes: usize) -> Option<String> {
        self.bytes += bytes;
        if self.bytes - self.reported < REPORT_EVERY_BYTES {
            return None;
        }
        self.reported = self.bytes;
        Some(format!("{} MiB received", self.bytes / MIB))
    }
}
