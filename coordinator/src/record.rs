//! The recorded state. Each file reads one kind of record from the store and writes it there.

pub mod absent;
pub mod audit;
pub mod cluster;
pub mod coordinators;
pub mod environments;
pub mod history;
pub mod hosts;
pub mod kept_images;
pub mod local_rollbacks;
pub mod pending_undos;
pub mod refusals;
pub mod tails;
pub mod unclaimed_names;
pub mod vault;
