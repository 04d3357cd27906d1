//! The machine on which the agent runs: its clock, disks, sockets, systemd units and vital signs.

pub mod clock;
pub mod disk;
pub mod sockets;
pub mod unit;
pub mod vitals;
