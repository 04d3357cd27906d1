//! Scenarios: the real programs on real parts, told through the command line as an operator uses it.
//!
//! Each asserts the exit code, the words that matter (what, why, next), and that nothing half-done is left.

mod authority;
mod background;
mod bed;
mod build;
mod cases;
mod concurrency;
mod crash;
mod crash_bed;
mod crash_matrix;
mod declaration;
mod demo;
mod doctor;
mod etcd;
mod happy;
mod hosts;
mod identity;
mod local;
mod lock;
mod neighbours;
mod otlp;
mod pg_hba;
mod plan;
mod registry;
mod releases;
mod rollback;
mod scene;
mod screens;
mod secrets;
mod sent;
mod sent_from_here;
mod sent_guard;
mod site;
mod stuck;
mod world;
