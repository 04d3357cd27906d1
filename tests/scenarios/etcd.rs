//! etcd for real: the bed's own, a coordinator that is pointed at it wrongly, a stage that runs on it, and a
//! cluster of coordinators.

mod authority;
mod backup;
mod bed;
mod cluster;
mod on_etcd;
mod sent;
mod stage;
mod start;
