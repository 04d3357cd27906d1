//! The servers that our programs work with: databases, proxies, registries, container engines.

pub mod certificates;
pub mod docker;
pub mod engine;
pub mod etcd;
pub mod nginx;
pub mod postgres;
pub mod proxy;
pub mod registry;
