//! Deployments and rollbacks: what an operator does every day.

mod concurrency;
mod decommission;
mod failed_migrations;
mod happy;
mod lock;
mod neighbours;
mod plan;
mod rollback;
mod site;
