//! Joins a cluster whose record is in etcd.
//!
//! What must stay true: the key of the coordinator's authority is made here and never leaves. The files are written in
//! an order in which the coordinator has either joined or not.

use std::io::Read;

use anyhow::{Context, bail};
use lockstep_core::name::CoordinatorName;
use lockstep_proto::dial;
use tracing::info;

use crate::identity::authority::Authority;
use crate::ports::private_files;
use crate::program::directory::{AUTHORITY, SECRETS_KEY, make_private};
use crate::program::settings::{Settings, StoreSettings};

/// Joins at `coordinator` with the one-time token on standard input.
///
/// # Errors
/// When this directory is a coordinator's already, or has no etcd in its settings, or the token is refused.
pub async fn join(
    settings: &Settings,
    coordinator: &str,
    name: Option<CoordinatorName>,
) -> anyhow::Result<()> {
    make_private(&settings.directory)?;
    let directory = settings.directory.join(AUTHORITY);
    if let Some(cluster) = Authority::cluster_of(&directory)? {
        bail!("{} already belongs to a coordinator of the cluster {cluster}", settings.directory.display());
    }
    let chosen = settings.choose()?;
    if chosen.store == StoreSettings::Sqlite {
        bail!(
            "several coordinators need a record in etcd: set store.etcd in {}",
            settings.directory.join("coordinator.toml").display()
        );
    }
    let Some(address) = chosen.advertised(chosen.listen).filter(|address| address.port() != 0) else {
        bail!("other machines cannot reach this coordinator at {}: add --address ADDR:PORT", chosen.listen);
    };
    let mut token = String::new();
    std::io::stdin().read_to_string(&mut token).context("cannot read the token from standard input")?;
    let name = match name {
        Some(name) => name.to_string(),
        None => machine_name(),
    };
    let joined = dial::join(coordinator, token.trim(), &name, &address.to_string())
        .await
        .with_context(|| format!("cannot join at {coordinator}"))?;
    if joined.secrets_key.expose().is_empty() {
        bail!("this token is not for a coordinator: make one with `lockstep coordinator token`");
    }
    private_files::write(&settings.directory.join(SECRETS_KEY), joined.secrets_key.expose())?;
    Authority::adopt(&directory, &joined.credential)?;
    info!(name = joined.name, cluster = joined.cluster, %address, "joined");
    Ok(())
}

/// The machine's name, as far as it can be a name of ours; what cannot is refused with the rule.
fn machine_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    name.split('.').next().unwrap_or_default().to_owned()
}
