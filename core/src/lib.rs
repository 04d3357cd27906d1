//! The model and the engine: everything that Lockstep decides.
//!
//! Nothing here does I/O. The crate is `no_std`, which rules out the clock, files, threads, the environment, printing
//! and unordered maps: time, ids and facts come in as values, and decisions go out as values. Production, stories and
//! the dry run all use this code.
//!
//! Modules in reading order: vocabulary ([`name`], [`object_name`], [`id`], [`image`], [`time`], [`count`], [`shortened`],
//! [`secret`], [`slot`], [`host`], [`release`]), the declaration ([`spec`]), what should happen ([`plan`], [`planner`]), what has happened and what
//! comes next ([`run`]), the recorded and observed state ([`record`]), what screens show of it ([`view`]), and the
//! rules that agents and coordinators share ([`agent`], [`health`], [`access`], [`stored`]).
#![no_std]

extern crate alloc;

pub mod access;
pub mod agent;
pub mod count;
pub mod health;
pub mod host;
pub mod id;
pub mod image;
pub mod name;
pub mod object_name;
pub mod plan;
pub mod planner;
pub mod record;
pub mod release;
pub mod run;
pub mod secret;
pub mod shortened;
pub mod slot;
pub mod spec;
pub mod stored;
pub mod time;
pub mod view;
