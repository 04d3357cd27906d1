//! The ground floor: traits for what a coordinator needs of the outside, and what carries them around.
//!
//! Nothing here imports anything of the coordinator but the store's trait.

pub mod agents;
pub mod clock;
pub mod metrics;
pub mod private_files;
pub mod secrets;
