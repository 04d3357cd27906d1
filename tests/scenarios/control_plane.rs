//! The control plane on etcd: several coordinators, faults of etcd, a record that is moved, and another key for the
//! secrets.

mod backup;
mod cluster;
mod etcd_faults;
mod etcd_start;
mod rekey;
