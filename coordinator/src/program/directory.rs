//! The directory of a coordinator: the names of its files, and the check that only its user has access.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, bail};

/// Where a coordinator's authority is, in its directory.
pub(crate) const AUTHORITY: &str = "authority";

/// Where the key to the secrets is, in a coordinator's directory.
pub(crate) const SECRETS_KEY: &str = "secrets.key";

pub(crate) fn make_private(directory: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let mode = fs::metadata(directory)?.mode();
    if mode & 0o077 != 0 {
        bail!("other users have access to {0}: chmod 700 {0}", directory.display());
    }
    Ok(())
}
