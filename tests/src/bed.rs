//! The test bed: the real parts that scenarios, benchmarks and the demonstration run on. Each part is private, is started
//! from nothing in a directory of its own, and is gone when it is dropped. Only Docker is the machine's.

pub mod declaration;
pub mod files;
pub mod place;
pub mod ports;
pub mod program;
pub mod server;
pub mod stage;
pub mod wait;
