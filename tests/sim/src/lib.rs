//! The simulation: the real drivers, the real engine and the real planner over the memory store, with
//! simulated hosts, network, disks and clocks, on one thread, from one seed.
//!
//! What must stay true: a seed says everything, so that a run can be repeated to the letter; whatever is
//! real elsewhere and pure is the real one here; what stands for reality ([`reality`]) is changed by
//! nobody but executors and faults, and every change is looked at ([`check`]).
//!
//! Modules in reading order: what a seed means ([`schedule`], [`fault`]), who there is ([`world`]),
//! coordinators ([`clock`], [`link`], [`coordinator`], [`session`], [`message`]), hosts ([`disk`], [`agent`],
//! [`execute`], [`reality`]), what must be so ([`invariant`], [`check`],
//! [`mirror`], [`watchman`]), and one run and many
//! ([`operator`], [`neighbour`], [`run`], [`many`]).

pub mod agent;
pub mod check;
pub mod clock;
pub mod coordinator;
pub mod disk;
pub mod execute;
pub mod fault;
pub mod invariant;
pub mod link;
pub mod many;
pub mod message;
pub mod mirror;
pub mod neighbour;
pub mod operator;
pub mod reality;
pub mod run;
pub mod schedule;
pub mod session;
pub mod watchman;
pub mod world;
