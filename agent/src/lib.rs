//! The service on each host: it carries out the steps that it is handed, and decides nothing about
//! what comes next.
//!
//! Modules in reading order: what it is given ([`settings`], [`directory`]); what it was asked and has
//! done ([`assignment`], [`fence`], [`journal`], [`reconcile`], [`step_log`], [`secrets`]).

pub mod assignment;
pub mod directory;
pub mod fence;
pub mod journal;
pub mod reconcile;
pub mod secrets;
pub mod settings;
pub mod step_log;
