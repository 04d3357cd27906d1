//! The services that drivers, planning and views share: the store, the agents, the secrets and the clock.

use std::path::PathBuf;
use std::sync::Arc;

use lockstep_core::id::ClusterId;

use crate::ports::agents::Agents;
use crate::ports::clock::Clock;
use crate::ports::secrets::Secrets;
use crate::record::kept_images::KeptImages;
use crate::record::unclaimed_names::UnclaimedNames;
use crate::store::Store;

/// The ports and the settings of one coordinator.
#[derive(Clone)]
pub struct Context {
    pub store: Arc<dyn Store>,
    pub agents: Arc<dyn Agents>,
    pub secrets: Arc<dyn Secrets>,
    pub clock: Arc<dyn Clock>,
    pub kept_images: Arc<KeptImages>,
    pub unclaimed_names: Arc<UnclaimedNames>,
    pub cluster: ClusterId,
    /// The name of this coordinator.
    pub coordinator: String,
    /// Where logs of deployments go; nothing is written where this is empty.
    pub logs: PathBuf,
    /// Below which the state file of each environment is kept current; `None` if none is.
    pub state_files: Option<PathBuf>,
}
