//! Images: find them, read files without running them, remove them.

use std::collections::{BTreeSet, HashMap};
use std::io;

use bollard::errors::Error as Bollard;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptions, DownloadFromContainerOptionsBuilder, ImportImageOptionsBuilder,
    RemoveImageOptions, TagImageOptionsBuilder,
};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use lockstep_core::id::Digest;
use lockstep_core::image::{self, check_image};

use super::{Docker, DockerError, Filter, LABEL_TEMPORARY, archive, is_missing};

/// Migrations are text. A larger folder is not one of migrations.
const FOLDER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// An image as the engine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub id: Digest,
    /// The manifest of this image in the registry of the requested name.
    pub manifest: Option<Digest>,
    pub commit: Option<String>,
    pub size_bytes: u64,
}

/// The result of removing an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    Yes,
    WasNotThere,
    InUse,
    /// It has names in several repositories: somebody else may have no other copy.
    HasOtherNames,
}

impl Docker {
    /// The image with this name or id; `None` if this host does not have it.
    ///
    /// # Errors
    /// When it is no name, or the engine does not answer.
    pub async fn image(&self, reference: &str) -> Result<Option<Image>, DockerError> {
        check_image(reference)?;
        let found = match self.client().await?.inspect_image(reference).await {
            Ok(found) => found,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(self.refused(format!("to inspect {reference}"))(error)),
        };
        let Some(id) = found.id.as_deref().and_then(|id| id.parse().ok()) else { return Ok(None) };
        let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
        let commit =
            labels.get("org.opencontainers.image.revision").filter(|commit| is_commit(commit)).cloned();
        let size_bytes = found.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
        let names = found.repo_digests.unwrap_or_default();
        let manifest = manifest_of(reference, &names);
        Ok(Some(Image { id, manifest, commit, size_bytes }))
    }

    /// Exports an image with its layers, in parts.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn save(
        &self,
        id: &Digest,
    ) -> Result<impl Stream<Item = Result<Bytes, Bollard>> + Send + use<>, DockerError> {
        Ok(self.client().await?.export_image(id.as_str()))
    }

    /// Loads what [`Docker::save`] exported: the image with this id and no names, or an error. Then tags it with
    /// `name`.
    ///
    /// # Errors
    /// When the engine refuses, the parts end early, or they are of another image.
    pub async fn load(
        &self,
        parts: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        (id, name): (&Digest, &str),
    ) -> Result<(), DockerError> {
        let refused = |error| self.refused(format!("to load {name}"))(error);
        let client = self.client().await?;
        let options = ImportImageOptionsBuilder::default().quiet(true).build();
        let mut states = client.import_image_stream(options, archive::refuse_names(parts), None);
        while let Some(state) = states.next().await {
            state.map_err(refused)?;
        }
        // The engine makes the id anew from what it has loaded.
        if self.image(id.as_str()).await?.is_none() {
            return Err(DockerError::Other { id: id.clone() });
        }
        self.tag(id, name).await
    }

    /// Tags an image with `name`, unless the name is an id.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn tag(&self, id: &Digest, name: &str) -> Result<(), DockerError> {
        let Some(tag) = image::tag(name).filter(|_| name.parse::<Digest>().is_err()) else { return Ok(()) };
        let options = TagImageOptionsBuilder::default().repo(image::repository(name)).tag(tag).build();
        let called = self.client().await?.tag_image(id.as_str(), Some(options)).await;
        called.map_err(self.refused(format!("to tag {} as {name}", id.short())))
    }

    /// Removes an image and its names, unless a container uses it, running or stopped, or another repository has it too.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn remove_image(&self, id: &Digest) -> Result<Removed, DockerError> {
        let client = self.client().await?;
        let found = match client.inspect_image(id.as_str()).await {
            Ok(found) => found,
            Err(error) if is_missing(&error) => return Ok(Removed::WasNotThere),
            Err(error) => return Err(self.refused(format!("to inspect {id}"))(error)),
        };
        if !self.list(Filter::Ancestor(id.as_str())).await?.is_empty() {
            return Ok(Removed::InUse);
        }
        // One with several names is not removed by its id, and with its last name it goes.
        let mut names = found.repo_tags.unwrap_or_default();
        if names.iter().map(|name| image::repository(name)).collect::<BTreeSet<_>>().len() > 1 {
            return Ok(Removed::HasOtherNames);
        }
        if names.is_empty() {
            names.push(id.to_string());
        }
        for name in &names {
            match client.remove_image(name, None::<RemoveImageOptions>, None).await {
                Ok(_) => {}
                Err(error) if is_missing(&error) => {}
                Err(Bollard::DockerResponseServerError { status_code: 409, .. }) => {
                    return Ok(Removed::InUse);
                }
                Err(error) => return Err(self.refused(format!("to remove {name}"))(error)),
            }
        }
        Ok(Removed::Yes)
    }

    /// A folder of an image as a tar archive, read from a container that is never started. `None` if the image has no
    /// such folder.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn folder(&self, image: &Digest, path: &str) -> Result<Option<Vec<u8>>, DockerError> {
        let client = self.client().await?;
        let body = ContainerCreateBody {
            image: Some(image.to_string()),
            // An image without a command could not be made into a container.
            cmd: Some(vec!["/never-started".to_owned()]),
            labels: Some(HashMap::from([(LABEL_TEMPORARY.to_owned(), self.host.to_string())])),
            ..ContainerCreateBody::default()
        };
        let made = client
            .create_container(None::<CreateContainerOptions>, body)
            .await
            .map_err(self.refused(format!("to read {path} of {image}")))?;
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let mut parts = client.download_from_container(&made.id, Some(options));
        let mut archive = Vec::new();
        let mut outcome = Ok(true);
        while let Some(part) = parts.next().await {
            match part {
                Ok(part) if archive.len() + part.len() > FOLDER_BYTES_MAX => {
                    outcome = Err(DockerError::Large { path: path.to_owned(), image: image.clone() });
                    break;
                }
                Ok(part) => archive.extend_from_slice(&part),
                Err(error) if is_missing(&error) => outcome = Ok(false),
                Err(error) => outcome = Err(self.refused(format!("to read {path} of {image}"))(error)),
            }
        }
        drop(parts);
        self.remove(&made.id).await?;
        Ok(outcome?.then_some(archive))
    }

    /// Removes the temporary containers of an agent of this host that was killed. Only for the start of the agent:
    /// later they may be in use.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn sweep_temporary(&self) -> Result<(), DockerError> {
        let label = format!("{LABEL_TEMPORARY}={}", self.host);
        for container in self.list(Filter::Label(&label)).await? {
            if let Some(id) = &container.id {
                self.remove(id).await?;
            }
        }
        Ok(())
    }
}

/// The digest of the image in the registry of `reference`, from the `names` of the image.
fn manifest_of(reference: &str, names: &[String]) -> Option<Digest> {
    let of_this = names.iter().filter(|name| image::same_repository(reference, name));
    let mut digests = of_this.filter_map(|name| name.split_once('@')?.1.parse::<Digest>().ok());
    let named = reference.split_once('@').map(|(_, digest)| digest);
    let first = digests.next()?;
    // One image may be in a repository under several manifests: the one that is named, if any.
    if named.is_none_or(|named| named == first.as_str()) {
        Some(first)
    } else {
        digests.find(|digest| Some(digest.as_str()) == named)
    }
}

fn is_commit(text: &str) -> bool {
    text.len() >= 7 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
