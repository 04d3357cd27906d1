//! Deployments: planned, started, followed, resolved and looked up.

mod branch;
mod build;
pub mod deploy;
mod failed;
mod git;
pub mod history;
pub mod images;
mod local_image;
mod plan;
mod receipt;
mod reference;
pub mod resolve;
pub mod watch;

pub(super) use receipt::verdict;
pub(super) use reference::{Typed, is_deployment, reference};
