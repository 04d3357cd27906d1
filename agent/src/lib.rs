//! The service on each host: it carries out the steps that it is handed, and decides nothing about
//! what comes next.
//!
//! Modules in reading order: what it is given ([`settings`], [`directory`], [`telemetry`]); what it
//! was asked and has done ([`assignment`], [`fence`], [`journal`], [`reconcile`], [`step_log`]).

pub mod assignment;
pub mod directory;
pub mod fence;
pub mod journal;
pub mod settings;
