//! The removal of an environment: decided in one transaction, carried out in several.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::name::OperatorName;
use crate::time::Timestamp;

/// A removal that was decided and is not finished. While it is recorded, nothing is deployed to the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removal {
    pub by: OperatorName,
    pub since: Timestamp,
    /// What the hosts keep of the environment, one sentence for each thing.
    pub left_behind: Vec<String>,
}
