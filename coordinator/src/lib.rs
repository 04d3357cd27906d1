//! The service: keeps the record, drives deployments, and lets nobody in who has no business here.

pub mod agents;
pub mod clock;
pub mod store;
