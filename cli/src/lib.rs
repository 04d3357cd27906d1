//! The command line, as a library for its tests.
//!
//! Modules in reading order: what is typed ([`args`]), where it runs ([`context`], [`credential`]), what it
//! declares ([`deployment_yml`], [`env_file`]), what it does ([`command`]), and how it says so ([`output`],
//! [`failure`]).
#![allow(clippy::result_large_err, reason = "a failure is made once a command; its size costs nothing")]

pub mod args;
pub mod bounded_file;
pub mod clock;
pub mod command;
pub mod context;
pub mod credential;
pub mod deployment_yml;
pub mod env_file;
pub mod failure;
pub mod output;
pub mod progress;
pub mod this_machine;
pub mod usage;
