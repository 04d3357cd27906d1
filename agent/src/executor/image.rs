//! The image is on the host, under the id that the plan names.

use lockstep_core::errand::Errand;
use lockstep_core::id::Digest;
use lockstep_core::image::{self, Login, RegistryName};
use lockstep_core::journal::{Finding, StepFailure};
use lockstep_core::plan::action::{PreflightApp, PresentImage};

use super::{Executors, Work, docker_failed, said};
use crate::docker::DockerError;

impl Executors {
    pub(super) async fn present_image(
        &self,
        work: &Work,
        present: &PresentImage,
    ) -> Result<Finding, StepFailure> {
        let PresentImage { image, image_id: id, manifest } = present;
        if self.has_image(id).await? {
            return Ok(said("it was there"));
        }
        let tell = |state: &str| work.output.line(state);
        let pulling = async {
            match manifest {
                Some(manifest) => self.docker.pull_manifest(image, manifest, work.login.as_ref(), tell).await,
                None => self.docker.pull(image, None, tell).await,
            }
        };
        tokio::select! {
            pulled = pulling => pulled.map_err(|error| match manifest {
                Some(_) => docker_failed(error),
                None => docker_failed(error).next(format!("docker pull {image}, or build it on this host")),
            })?,
            () = work.cancel.cancelled() => return Err(StepFailure::new("it was told to stop")),
        }
        let pulled =
            manifest.as_ref().map_or_else(|| image.clone(), |manifest| image::pinned(image, manifest));
        match self.docker.image(&pulled).await.map_err(docker_failed)? {
            Some(found) if found.id == *id => Ok(said("it was pulled")),
            Some(found) => Err(StepFailure::new(format!("{pulled} is another image than the plan's"))
                .why(format!("it is {}, and the plan was made for {}", found.id.short(), id.short()))
                .next("make the plan again")),
            None => Err(StepFailure::new(format!("{pulled} is not there after having been pulled"))),
        }
    }

    /// Proves, before anything starts, that this host will get the image.
    pub(super) async fn preflight_image(&self, work: &Work, app: &PreflightApp) -> Result<(), StepFailure> {
        let Some(manifest) = &app.manifest else { return Ok(()) };
        if self.has_image(&app.image_id).await? {
            return Ok(());
        }
        let pinned = image::pinned(&app.image, manifest);
        self.docker.manifest(&pinned, work.login.as_ref()).await.map_err(docker_failed)?;
        work.output.line(&format!("{} has {pinned} for this host", RegistryName::of(&app.image)));
        Ok(())
    }

    async fn has_image(&self, id: &Digest) -> Result<bool, StepFailure> {
        Ok(self.docker.image(id.as_str()).await.map_err(docker_failed)?.is_some())
    }

    /// Runs an errand, with the login that it may need; says what went wrong.
    pub async fn run(&self, errand: &Errand, login: Option<&Login>) -> Result<(), String> {
        let failed = |error: DockerError| match error.words() {
            words if words.is_empty() => error.to_string(),
            words => format!("{error}: {words}"),
        };
        match (errand, login) {
            (Errand::LogIn { registry }, None) => Err(format!("nobody has logged in to {registry}")),
            (Errand::LogIn { .. }, Some(login)) => self.docker.log_in(login).await.map_err(failed),
            (Errand::Fetch { image, manifest }, login) => {
                self.docker.pull_manifest(image, manifest, login, |_| ()).await.map_err(failed)
            }
        }
    }
}
