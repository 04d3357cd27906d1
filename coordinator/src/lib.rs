//! The service: keeps the record, drives deployments, and lets nobody in who has no business here.
//!
//! Modules in reading order: who is who ([`cluster`], [`authority`], [`identity`], [`tokens`],
//! [`operators`], [`hosts`], [`audit`]); what is kept ([`store`], [`private`]); who is connected
//! ([`agents`]).

pub mod agents;
pub mod audit;
pub mod authority;
pub mod clock;
pub mod cluster;
pub mod deployment_log;
pub mod driver;
pub mod environments;
pub mod history;
pub mod hosts;
pub mod identity;
pub mod lock;
pub mod operators;
pub mod private;
pub mod secrets;
pub mod state_file;
pub mod store;
pub mod tokens;
