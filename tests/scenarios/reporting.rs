//! What people and collectors see: screens, traces and metrics, the demonstration.

mod demo;
mod otlp;
mod screens;
mod troubles;
