//! Tar archives: an image from another host, and the folder of migrations in an image. The first byte is the size of the
//! parts in which the archive arrives.
#![no_main]

use std::io::{self, Read};

use bytes::Bytes;
use futures::StreamExt;
use libfuzzer_sys::fuzz_target;
use lockstep_agent::docker::fuzzing::refuse_names;
use lockstep_core::release::MIGRATIONS_MAX;
use lockstep_fuzz::runtime;
use lockstep_runtime::migrations::Files;
use tokio::runtime::Runtime;

thread_local! {
    static RUNTIME: Runtime = runtime();
}

fuzz_target!(|input: &[u8]| {
    let Some((part_bytes, archive)) = input.split_first() else { return };
    image(archive, usize::from(*part_bytes).max(1) * 16);
    migrations(archive);
});

fn image(archive: &[u8], part_bytes: usize) {
    let (at_once, is_good) = passed(archive, archive.len().max(1));
    assert_eq!(passed(archive, part_bytes).1, is_good, "it depends on the parts");
    if is_good {
        assert_eq!(at_once, archive, "it was changed");
        assert!(!names_an_image(archive), "Docker would give it a name");
    } else {
        assert!(archive.starts_with(&at_once), "it was changed");
    }
}

/// What Docker gets of the archive, and whether it gets all of it.
fn passed(archive: &[u8], part_bytes: usize) -> (Vec<u8>, bool) {
    let parts: Vec<io::Result<Bytes>> =
        archive.chunks(part_bytes).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let mut passed = std::pin::pin!(refuse_names(futures::stream::iter(parts)));
            let mut all = Vec::new();
            while let Some(part) = passed.next().await {
                match part {
                    Ok(part) => all.extend_from_slice(&part),
                    Err(_) => return (all, false),
                }
            }
            (all, true)
        })
    })
}

/// As Docker sees it: whether a list of images in the archive has a name.
fn names_an_image(archive: &[u8]) -> bool {
    let mut archive = tar::Archive::new(archive);
    let Ok(entries) = archive.entries() else { return false };
    for entry in entries {
        let Ok(mut entry) = entry else { return false };
        let Ok(path) = entry.path().map(|path| path.into_owned()) else { return false };
        if path.file_name().is_none_or(|name| name != "manifest.json") {
            continue;
        }
        let mut text = Vec::new();
        if entry.read_to_end(&mut text).is_err() {
            return false;
        }
        let Ok(serde_json::Value::Array(images)) = serde_json::from_slice(&text) else { continue };
        let names = images.iter().filter_map(|image| image.get("RepoTags")?.as_array());
        if names.flatten().any(serde_json::Value::is_string) {
            return true;
        }
    }
    false
}

fn migrations(archive: &[u8]) {
    let Ok(files) = Files::read(archive) else { return };
    let migrations = files.migrations();
    assert!(migrations.len() <= MIGRATIONS_MAX);
    assert!(migrations.is_sorted_by(|one, next| one.version < next.version), "{migrations:?}");
    for migration in &migrations {
        assert!(files.sql(migration).is_some(), "{migration:?} has no SQL");
    }
}
