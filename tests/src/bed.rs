//! The real parts that scenarios and the demonstration stand on: a private
//! PostgreSQL, a private nginx, a private etcd, a private registry, and the machine's Docker. Each is started from
//! nothing in a directory of its own, and is gone when it is dropped.

pub mod certificates;
pub mod directory;
pub mod docker;
pub mod engine;
pub mod etcd;
pub mod interrupt;
pub mod nginx;
pub mod place;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod program;
pub mod proxy;
pub mod registry;
pub mod stage;
pub mod terminal;
pub mod wait;
