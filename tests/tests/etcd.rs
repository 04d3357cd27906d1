//! etcd for real: the bed's own, a coordinator that is pointed at it wrongly, and a stage that runs on it.

mod etcd {
    mod bed;
    mod stage;
    mod start;
}
