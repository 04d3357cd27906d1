//! What the programs share at run time.
//!
//! - [`systemd`]: what a service reports to systemd, and what is asked of it.
//! - [`telemetry`]: the log of a service, and its traces and metrics by OTLP.
//! - [`migrations`]: the migrations that an image brings, read alike where a plan is shown and where they are applied.
//! - [`durable`]: files that must survive a power cut.
//!
//! Nothing here decides about deployments: that is `core`.

pub mod durable;
pub mod migrations;
pub mod systemd;
pub mod telemetry;
