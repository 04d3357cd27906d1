//! Tasks of a host besides steps and observations. They may take long, and need no token, because nothing that is live
//! depends on them.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::id::Digest;
use crate::image::RegistryName;
use crate::stored::StoredDocument;
use crate::time::Millis;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HostTask {
    /// Prove that the registry lets this host in.
    LogIn { registry: RegistryName },
    /// Have the image of this manifest, so that it can be looked into: what a plan is made from.
    Fetch { image: String, manifest: Digest },
    /// Give an image to the host that waits for it, through a coordinator: that at `to`, or any where it is empty.
    Give { image_id: Digest, transfer: String, to: String },
    /// Take the image that an operator sends, through the coordinator at `from`, or any where it is empty.
    Take { image: String, image_id: Digest, transfer: String, from: String },
}

impl StoredDocument for HostTask {
    const KIND: &'static str = "errand";
}

impl HostTask {
    /// The registry whose login it uses, if any.
    pub fn registry(&self) -> Option<RegistryName> {
        match self {
            Self::LogIn { registry } => Some(registry.clone()),
            Self::Fetch { image, .. } => Some(RegistryName::of_image(image)),
            Self::Give { .. } | Self::Take { .. } => None,
        }
    }

    /// How long it may take.
    pub fn limit(&self) -> Millis {
        match self {
            Self::LogIn { .. } => Millis::from_secs(20),
            Self::Fetch { .. } | Self::Give { .. } => Millis::from_secs(600),
            // An operator's line may be slow; a deployment's lock has an end of its own.
            Self::Take { .. } => Millis::from_secs(3600),
        }
    }
}
