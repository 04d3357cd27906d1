//! The machine that the agent runs on: its clock, its disks, its systemd units, how it is.

pub mod clock;
pub mod disk;
pub mod unit;
pub mod vitals;
