//! The model and the engine: what Lockstep decides.
//!
//! Nothing here can do I/O. The crate is `no_std`, which forbids the clock, files, threads, the
//! environment, printing and unordered maps in one line: time, ids and facts come in as values,
//! decisions go out as values. Production, stories and the dry run all drive this same code.
//!
//! Modules in reading order: words ([`name`], [`id`], [`image`], [`time`], [`secret`]), what an operator
//! declares ([`spec`]), what is so ([`record`], [`host_status`], [`authority_status`]), what should happen
//! ([`operation`], [`plan`], [`planner`]), what has happened ([`journal`]), what comes next ([`engine`], [`drive`]),
//! and the rules that agents and coordinators share ([`fence`], [`intake`], [`errand`], [`health`],
//! [`access`], [`stored`], [`redact`], [`state_file`]).
#![no_std]

extern crate alloc;

pub mod accept;
pub mod access;
pub mod authority_status;
pub mod driver_phase;
pub mod engine;
pub mod fence;
pub mod health;
pub mod host_status;
pub mod host_task;
pub mod id;
pub mod image;
pub mod join_token;
pub mod journal;
pub mod name;
pub mod operation;
pub mod plan;
pub mod planner;
pub mod record;
pub mod redact;
pub mod release;
pub mod secret;
pub mod spec;
pub mod state_file;
pub mod stored;
pub mod time;
