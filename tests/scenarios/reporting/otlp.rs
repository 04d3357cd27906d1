//! Traces and metrics by OTLP: one trace over both services, and a collector that is away.

mod collector;
mod exported;
