//! Keeps `deployment-state.json` of each environment current, where `coordinator.toml` names a folder for them.
//!
//! It is a copy for readers. Nothing is decided from it, and a file that cannot be written stops nothing.

use std::io;
use std::path::{Path, PathBuf};

use lockstep_core::health::Health;
use lockstep_core::host::Host;
use lockstep_core::id::HostId;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::live::LiveRelease;
use lockstep_core::slot::Slot;
use lockstep_core::view::state_file;
use lockstep_core::view::state_file::{SlotHealth, StateFile};
use tracing::warn;

use crate::context::Context;
use crate::record::{environments, history, hosts};
use crate::store::StoreError;

const FILE: &str = "deployment-state.json";

/// How many deployments the file has.
const HISTORY_IN_FILE: usize = 20;

/// The file's content as things are.
///
/// # Errors
/// When the record cannot be read.
pub async fn export(context: &Context, environment: &EnvironmentKey) -> Result<StateFile, StoreError> {
    let store = &*context.store;
    let live = environments::live(store, environment).await?;
    let past = history::ended(store, environment, HISTORY_IN_FILE).await?;
    let open = environments::open(store, environment).await?.map(|seen| seen.content);
    let health = match &live {
        Some(live) => slot_health(context, live, &hosts::list(store).await?),
        None => SlotHealth { live: Health::Unknown, standby: Health::Unknown },
    };
    Ok(state_file::state_file_of(environment, live.as_ref(), &past, open.as_ref(), health))
}

/// Where the file of an environment is.
fn path(state_files: &Path, environment: &EnvironmentKey) -> PathBuf {
    let EnvironmentKey { application, environment } = environment;
    state_files.join(application.as_str()).join(environment.as_str()).join(FILE)
}

/// Writes the file, if files are kept.
pub async fn keep_current(context: &Context, environment: &EnvironmentKey) {
    let Some(state_files) = &context.state_files else {
        return;
    };
    let path = path(state_files, environment);
    let state = match export(context, environment).await {
        Ok(state) => state,
        Err(error) => {
            warn!(%environment, error = &error as &dyn std::error::Error, "cannot compose the state file");
            return;
        }
    };
    if let Err(error) = replace(&path, &state).await {
        warn!(%environment, path = %path.display(), %error, "cannot write the state file");
    }
}

/// The worst of what the agents of the environment's app hosts last said of each slot's instances. What another host says
/// does not count.
fn slot_health(context: &Context, live: &LiveRelease, all: &[Host]) -> SlotHealth {
    let names = if live.serving.is_empty() { &live.spec.hosts.app } else { &live.serving };
    // An environment that names no host has the only one.
    let is_only = names.is_empty() && all.len() == 1;
    let serves =
        |id: &HostId| all.iter().any(|host| host.id == *id && (is_only || names.contains(&host.name)));
    let mut reported = context.agents.health(&live.spec.key);
    reported.retain(|id, _| serves(id));
    let of = |slot: Slot| {
        let instances = reported.values().flatten().filter(|instance| instance.slot() == Some(slot));
        instances.map(|instance| instance.health).max().unwrap_or(Health::Unknown)
    };
    SlotHealth { live: of(live.slot), standby: of(live.slot.other()) }
}

/// A reader sees the old file or the new one, never half of one.
async fn replace(path: &Path, state: &StateFile) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(state)?;
    text.push('\n');
    if let Some(directory) = path.parent() {
        tokio::fs::create_dir_all(directory).await?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    tokio::fs::write(&beside, text).await?;
    tokio::fs::rename(&beside, path).await
}
