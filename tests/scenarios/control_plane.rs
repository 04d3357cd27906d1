//! The control plane on etcd: several coordinators, faults of etcd, and a record that is moved.

mod backup;
mod cluster;
mod etcd_faults;
mod etcd_start;
