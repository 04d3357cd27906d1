//! Deployments: planned, started, followed, resolved and looked up.

mod build;
pub mod deploy;
mod git;
pub mod history;
mod local_image;
mod plan;
mod receipt;
mod reference;
pub mod resolve;
pub mod watch;

pub(super) use receipt::verdict;
