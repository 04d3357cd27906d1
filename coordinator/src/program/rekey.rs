//! Gives the secrets and the logins of registries another key, while no coordinator runs.

use std::sync::Arc;

use anyhow::bail;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::ports::clock::{Clock, SystemClock};
use crate::program::directory::{SECRETS_KEY, make_private};
use crate::program::service::open_store;
use crate::program::settings::Settings;
use crate::record::coordinators;
use crate::record::vault;

/// Encrypts everything with another key, and keeps that in the directory of this coordinator.
///
/// # Errors
/// When a coordinator runs, the store does not answer, or something stored was encrypted with another key.
pub async fn rekey(settings: &Settings) -> anyhow::Result<()> {
    make_private(&settings.directory)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let chosen = settings.choose()?.store;
    let Some((store, _)) =
        open_store(&settings.directory, &chosen, &clock, &CancellationToken::new()).await?
    else {
        bail!("the store was not opened");
    };
    let alive = coordinators::alive(&*store).await?;
    if !alive.is_empty() {
        let names: Vec<String> = alive.iter().map(|coordinator| coordinator.name.to_string()).collect();
        bail!(
            "{} runs, or was killed less than a minute ago: stop every coordinator, then run this again",
            names.join(", ")
        );
    }
    let file = settings.directory.join(SECRETS_KEY);
    let encrypted = vault::rekey(Arc::clone(&store), &file).await?;
    info!(encrypted, "the secrets have another key");
    if coordinators::list(&*store).await?.len() > 1 {
        info!("copy {} to every other coordinator before you start it", file.display());
    }
    info!("start the coordinator, then make a backup: earlier ones have the earlier key");
    Ok(())
}
