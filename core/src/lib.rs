//! The model and the engine: what Lockstep decides.
//!
//! Nothing here can do I/O. The crate is `no_std`, which forbids the clock, files, threads, the
//! environment, printing and unordered maps in one line: time, ids and facts come in as values,
//! decisions go out as values. Production, stories and the dry run all drive this same code.
//!
//! Modules in reading order: words ([`name`], [`id`], [`image`], [`time`], [`secret`], [`slot`], [`host`], [`release`]), what an
//! operator declares ([`spec`]), what should happen ([`plan`], [`planner`]), what has happened and what comes next ([`run`]), what is
//! recorded and observed ([`record`]), what screens show of it ([`view`]), and the rules that agents and coordinators share ([`agent`],
//! [`health`], [`access`], [`stored`]).
#![no_std]

extern crate alloc;

pub mod access;
pub mod agent;
pub mod health;
pub mod host;
pub mod id;
pub mod image;
pub mod name;
pub mod plan;
pub mod planner;
pub mod record;
pub mod release;
pub mod run;
pub mod secret;
pub mod slot;
pub mod spec;
pub mod stored;
pub mod time;
pub mod view;
