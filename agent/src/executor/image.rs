//! The image is on the host, under the id that the plan names.

use lockstep_core::id::Digest;
use lockstep_core::journal::{Finding, StepFailure};

use super::{Executors, Work, docker_failed, said};

impl Executors {
    pub(super) async fn present_image(
        &self,
        work: &Work,
        image: &str,
        id: &Digest,
    ) -> Result<Finding, StepFailure> {
        if self.docker.image(id.as_str()).await.map_err(docker_failed)?.is_some() {
            return Ok(said("it was there"));
        }
        let pulling = self.docker.pull(image, |state| work.output.line(state));
        tokio::select! {
            pulled = pulling => pulled.map_err(|error| {
                docker_failed(error).next(format!("docker pull {image}, or build it on this host"))
            })?,
            () = work.cancel.cancelled() => return Err(StepFailure::new("it was told to stop")),
        }
        match self.docker.image(image).await.map_err(docker_failed)? {
            Some(found) if found.id == *id => Ok(said("it was pulled")),
            Some(found) => Err(StepFailure::new(format!("{image} is another image than the plan's"))
                .why(format!("it is {}, and the plan was made for {}", found.id.short(), id.short()))
                .next("make the plan again")),
            None => Err(StepFailure::new(format!("{image} is not there after having been pulled"))),
        }
    }
}
