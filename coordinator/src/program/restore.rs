//! Restores a backup into SQLite or etcd.
//!
//! What must stay true: a backup is restored only into an empty store. The id of the cluster is written last, and no
//! coordinator starts on a store without it, so half of a backup is never served. Every epoch is raised far above what
//! a host can have seen, so no driver is taken for an earlier one.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::Bytes;
use lockstep_core::secret::Secret;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::ports::clock::{Clock, SystemClock};
use crate::ports::private_files;
use crate::program::backup::Backup;
use crate::program::directory::{AUTHORITY, make_private};
use crate::program::service::open_store;
use crate::program::settings::Settings;
use crate::store::guarded::{Restored, raised_epoch};
use crate::store::{Key, OPERATIONS_MAX, Store, TRANSACTION_BYTES_MAX, Write, keys};

/// Puts the backup in `file` back; the passphrase is read from standard input.
///
/// # Errors
/// When there is something in the way, or the backup cannot be opened.
pub async fn restore(settings: &Settings, file: &Path) -> anyhow::Result<()> {
    let sealed = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut passphrase = String::new();
    std::io::stdin()
        .read_to_string(&mut passphrase)
        .context("cannot read the passphrase from standard input")?;
    let passphrase = Secret::new(passphrase.trim_end_matches(['\r', '\n']).to_owned());
    put_back(settings, &Backup::open(&sealed, &passphrase)?).await
}

/// Puts a backup back that was opened.
///
/// # Errors
/// When there is something in the way.
pub async fn put_back(settings: &Settings, backup: &Backup) -> anyhow::Result<()> {
    make_private(&settings.directory)?;
    refuse_others_files(&settings.directory, backup)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = settings.choose()?.store;
    let Some((store, _)) = open_store(&settings.directory, &store, &clock, &CancellationToken::new()).await?
    else {
        bail!("the store was not opened");
    };
    fill(&*store, backup).await?;
    write_files(&settings.directory, backup)?;
    let meta = keys::meta();
    let found = backup.entries.iter().find(|(key, _)| key == meta.key());
    let (_, value) = found.context("the backup names no cluster")?;
    store.commit(Vec::new(), vec![Write::put_bytes(meta.clone(), value.clone())]).await?;
    info!(
        cluster = %backup.head.cluster,
        made = %backup.head.made,
        keys = backup.entries.len(),
        "restored the backup; start the coordinator"
    );
    Ok(())
}

/// A directory that is of another cluster, or has other keys, is not written over.
fn refuse_others_files(directory: &Path, backup: &Backup) -> anyhow::Result<()> {
    for (name, text) in &backup.files {
        let path = directory.join(name);
        if let Some(there) = private_files::read(&path)?
            && there != text.expose()
        {
            bail!("{} exists and differs from the backup: restore into an empty directory", path.display());
        }
    }
    Ok(())
}

fn write_files(directory: &Path, backup: &Backup) -> anyhow::Result<()> {
    make_private(&directory.join(AUTHORITY))?;
    for (name, text) in &backup.files {
        private_files::write(&directory.join(name), text.expose())?;
    }
    Ok(())
}

/// Everything but the cluster's id. What a restore that was interrupted has left is replaced.
async fn fill(store: &dyn Store, backup: &Backup) -> anyhow::Result<()> {
    let there = store.list(&keys::all()).await?;
    if there.iter().any(|stored| stored.key == *keys::meta().key()) {
        bail!(
            "the store is not empty: it has {} keys of a cluster; restore into an empty directory, or set another \
             store.etcd.prefix",
            there.len()
        );
    }
    let left: Vec<Write> = there.into_iter().map(|stored| Restored::key(stored.key).deletion()).collect();
    for some in batches(left) {
        store.commit(Vec::new(), some).await?;
    }
    let entries = backup.entries.iter().filter(|(key, _)| key != keys::meta().key());
    let writes = entries
        .map(|(key, value)| Ok(Restored::key(key.clone()).put(value_of(key, value)?)))
        .collect::<anyhow::Result<Vec<Write>>>()?;
    for some in batches(writes) {
        store.commit(Vec::new(), some).await?;
    }
    Ok(())
}

fn value_of(key: &Key, value: &[u8]) -> anyhow::Result<Bytes> {
    if key.last() == keys::EPOCH {
        return raised_epoch(value).with_context(|| format!("{key} is not a number"));
    }
    Ok(Bytes::copy_from_slice(value))
}

/// As many together as one transaction takes.
fn batches(writes: Vec<Write>) -> Vec<Vec<Write>> {
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    let mut bytes = 0;
    for write in writes {
        let size = write.size();
        if !batch.is_empty() && (batch.len() == OPERATIONS_MAX || bytes + size > TRANSACTION_BYTES_MAX / 2) {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += size;
        batch.push(write);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}
