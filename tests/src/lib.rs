//! What scenarios, the demonstration and the benchmarks are made of.

pub mod bed;
pub mod fleet;
pub mod load;
pub mod picture;
pub mod scene;
pub mod story;
