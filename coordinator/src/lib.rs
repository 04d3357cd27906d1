//! The coordinator. It keeps the record, drives deployments, and refuses callers without the right to call.
//!
//! Modules from the lowest up; each imports only from those before it in this list: [`ports`], [`store`],
//! [`identity`], [`record`], [`context`], [`sessions`], [`planning`], [`export`], [`view`], [`drive`], [`api`],
//! [`program`].

pub mod api;
pub mod context;
pub mod drive;
pub mod export;
pub mod identity;
pub mod planning;
pub mod ports;
pub mod program;
pub mod record;
pub mod sessions;
pub mod store;
pub mod view;
