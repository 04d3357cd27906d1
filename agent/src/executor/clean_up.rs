//! Removes images and snapshots that no rollback may need.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use lockstep_core::count::counted;
use lockstep_core::plan::action::{CleanUp, KeepSnapshots};
use lockstep_core::run::journal::{Finding, StepFailure};

use super::{Executors, Work, docker_failed, finding};
use crate::docker::Removed;

impl Executors {
    pub(super) async fn clean_up(&self, work: &Work, clean_up: &CleanUp) -> Result<Finding, StepFailure> {
        let in_use: BTreeSet<_> = self
            .docker
            .containers(None)
            .await
            .map_err(docker_failed)?
            .into_iter()
            .map(|container| container.seen.image_id)
            .collect();
        let mut images = 0;
        for image in clean_up.known_images.iter().filter(|image| !clean_up.keep_images.contains(image)) {
            if in_use.contains(image) {
                continue;
            }
            work.refuse_cancelled()?;
            match self.docker.remove_image(image).await.map_err(docker_failed)? {
                Removed::Yes => {
                    work.output.line(&format!("image {} removed", image.short()));
                    images += 1;
                }
                Removed::HasOtherNames => {
                    work.output
                        .line(&format!("image {} stays: another repository has it too", image.short()));
                }
                Removed::WasNotThere | Removed::InUse => {}
            }
        }
        let snapshots = match &clean_up.snapshots {
            None => 0,
            Some(keep) => self.remove_old_snapshots(work, keep).map_err(|error| {
                StepFailure::new(format!("cannot remove old snapshots in {}", keep.directory))
                    .why(error.to_string())
            })?,
        };
        Ok(finding(format!("{} and {} removed", counted(images, "image"), counted(snapshots, "snapshot"))))
    }

    /// Removes the oldest finished snapshots beyond `keep`. Their names begin with the time, so they sort by age.
    fn remove_old_snapshots(&self, work: &Work, keep: &KeepSnapshots) -> io::Result<usize> {
        let directory = self.snapshots(&keep.directory, &work.environment);
        if !directory.exists() {
            return Ok(0);
        }
        let mut finished: Vec<String> = Vec::new();
        for entry in fs::read_dir(&directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with("dep_") && !name.contains('.') {
                finished.push(name);
            }
        }
        finished.sort();
        let keep = usize::try_from(keep.keep).unwrap_or(usize::MAX);
        let mut removed = 0;
        for old in &finished[..finished.len().saturating_sub(keep)] {
            if *old == work.key.deployment.as_str() {
                continue;
            }
            work.output.line(&format!("snapshot {old} removed"));
            fs::remove_dir_all(directory.join(old))?;
            removed += 1;
        }
        Ok(removed)
    }
}
