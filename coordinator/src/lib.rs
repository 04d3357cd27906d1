//! The service: keeps the record, drives deployments, and lets nobody in who has no business here.
//!
//! Modules in reading order: who is who ([`cluster`], [`authority`], [`identity`], [`tokens`],
//! [`operators`], [`hosts`], [`coordinators`], [`roots`], [`rotation`], [`audit`]); what is kept ([`store`], [`private`]); who is
//! connected ([`agents`], [`sessions`], [`peers`], [`presence`]); what is secret ([`vault`]); and who may come in ([`server`], [`api`]).

pub mod agents;
pub mod api;
pub mod audit;
pub mod authority;
pub mod backup;
pub mod clock;
pub mod cluster;
pub mod coordinators;
pub mod deployment_log;
pub mod deployments;
pub mod drift;
pub mod driver;
pub mod environments;
pub mod history;
pub mod hosts;
pub mod identity;
pub mod images;
pub mod joining;
pub mod kept_images;
pub mod local_rollbacks;
pub mod lock;
pub mod operators;
pub mod peers;
pub mod pending_undos;
pub mod presence;
pub mod private;
pub mod restore;
pub mod roots;
pub mod rotation;
pub mod secrets;
pub mod server;
pub mod service;
pub mod sessions;
pub mod settings;
pub mod state_file;
pub mod status;
pub mod store;
pub mod tails;
pub mod telemetry;
pub mod tokens;
pub mod vault;
