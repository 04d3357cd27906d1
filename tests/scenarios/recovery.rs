//! What happens after a crash, without a coordinator, and when a deployment is stuck.

mod crash;
mod crash_matrix;
mod crash_test;
mod local_rollback;
mod stop;
mod stuck;
