//! The recorded state: what a coordinator reads from the store and writes to it, one file for each thing.

pub mod audit;
pub mod cluster;
pub mod coordinators;
pub mod environments;
pub mod history;
pub mod hosts;
pub mod kept_images;
pub mod local_rollbacks;
pub mod pending_undos;
pub mod tails;
pub mod vault;
