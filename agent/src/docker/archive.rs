//! Checks an image archive from another host: it may have layers and a configuration, and no image names.
//!
//! What must stay true: the engine gets a part of the archive only after the check of that part. The engine would give
//! an image every name in the archive, also those of other applications, and a deployment finds its image by name.

use std::collections::BTreeMap;
use std::io::{self, Read};

use bytes::{Buf, Bytes};
use futures::{Stream, StreamExt};
use lockstep_core::id::Digest;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// The maximum size of a file that lists the images of an archive.
const INDEX_BYTES_MAX: u64 = 1024 * 1024;

/// One image in `manifest.json`.
#[derive(Deserialize)]
struct Manifest {
    #[serde(rename = "RepoTags")]
    names: Option<Vec<String>>,
}

/// `index.json`
#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Described>,
}

#[derive(Deserialize)]
struct Described {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// Passes the parts on, and ends with an error if the archive gives an image a name.
pub(super) fn refuse_names(
    parts: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (received, unchecked) = mpsc::channel(1);
    let (checked, passed) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut parts = std::pin::pin!(parts);
        while let Some(part) = parts.next().await {
            // Nobody looks at what comes after what was refused.
            if received.send(part).await.is_err() {
                return;
            }
        }
    });
    tokio::task::spawn_blocking(move || {
        let mut gate = Gate { unchecked, checked, part: Bytes::new(), unread: Bytes::new() };
        if let Err(error) = check_archive(&mut gate) {
            // The engine may have stopped listening: then it says why itself.
            gate.checked.blocking_send(Err(error)).ok();
        }
    });
    ReceiverStream::new(passed)
}

/// Passes a part on when all of it was read and checked.
struct Gate {
    unchecked: mpsc::Receiver<io::Result<Bytes>>,
    checked: mpsc::Sender<io::Result<Bytes>>,
    part: Bytes,
    unread: Bytes,
}

impl Read for Gate {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.unread.is_empty() {
            let part = std::mem::take(&mut self.part);
            if !part.is_empty() && self.checked.blocking_send(Ok(part)).is_err() {
                return Err(io::Error::other("Docker stopped reading the archive"));
            }
            let Some(next) = self.unchecked.blocking_recv() else { return Ok(0) };
            self.part = next?;
            self.unread = self.part.clone();
        }
        let length = into.len().min(self.unread.len());
        self.unread.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}

fn check_archive(gate: &mut Gate) -> io::Result<()> {
    let mut archive = tar::Archive::new(&mut *gate);
    for entry in archive.entries()? {
        let entry = entry?;
        let path = entry.path()?.into_owned();
        let names = match path.file_name().and_then(|name| name.to_str()) {
            Some("manifest.json") => name_in_manifest,
            Some("index.json") => name_in_index,
            Some("repositories") => name_in_repositories,
            Some(_) | None => continue,
        };
        let mut text = String::new();
        entry.take(INDEX_BYTES_MAX).read_to_string(&mut text)?;
        if let Some(name) = names(&text)? {
            return Err(io::Error::other(format!(
                "the archive names an image {name}, and an archive must not have names"
            )));
        }
    }
    io::copy(gate, &mut io::sink()).map(|_| ())
}

fn name_in_manifest(text: &str) -> io::Result<Option<String>> {
    let manifests: Vec<Manifest> = serde_json::from_str(text)?;
    Ok(manifests.into_iter().filter_map(|manifest| manifest.names).flatten().next())
}

fn name_in_index(text: &str) -> io::Result<Option<String>> {
    let index: Index = serde_json::from_str(text)?;
    let mut names = index
        .manifests
        .into_iter()
        .filter_map(|mut described| described.annotations.remove("io.containerd.image.name"));
    // One that is an id is no name.
    Ok(names.find(|name| name.parse::<Digest>().is_err()))
}

fn name_in_repositories(text: &str) -> io::Result<Option<String>> {
    let repositories: BTreeMap<String, serde_json::Value> = serde_json::from_str(text)?;
    Ok(repositories.into_keys().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn passed(files: &[(&str, &str)]) -> Result<Vec<u8>, String> {
        let whole = archive(files);
        let parts: Vec<io::Result<Bytes>> =
            whole.chunks(700).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
        let mut all = Vec::new();
        let mut passed = std::pin::pin!(refuse_names(futures::stream::iter(parts)));
        while let Some(part) = passed.next().await {
            all.extend_from_slice(&part.map_err(|error| error.to_string())?);
        }
        assert_eq!(all, whole, "it was changed");
        Ok(all)
    }

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            archive.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[tokio::test]
    async fn an_archive_without_names_passes_as_it_is() {
        let layer = "x".repeat(5000);
        let index = r#"{"manifests":[{"digest":"sha256:00"}]}"#;
        let files = [
            ("a/layer.tar", layer.as_str()),
            ("index.json", index),
            ("manifest.json", r#"[{"RepoTags":null}]"#),
        ];
        assert!(passed(&files).await.is_ok());
    }

    #[tokio::test]
    async fn an_archive_that_names_an_image_does_not_end_well() {
        let other = "billing:4";
        for (file, text) in [
            ("manifest.json", r#"[{"RepoTags":null},{"RepoTags":["billing:4"]}]"#),
            ("./manifest.json", r#"[{"RepoTags":["billing:4"]}]"#),
            ("index.json", r#"{"manifests":[{"annotations":{"io.containerd.image.name":"billing:4"}}]}"#),
            ("repositories", r#"{"billing:4":{"4":"00"}}"#),
        ] {
            let refused = passed(&[("a/layer.tar", "x"), (file, text)]).await;
            assert!(refused.as_ref().is_err_and(|why| why.contains(other)), "{file}: {refused:?}");
        }
        assert!(passed(&[("manifest.json", "not what it should be")]).await.is_err());
    }
}
