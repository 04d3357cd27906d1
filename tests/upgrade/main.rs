//! What the programs of earlier versions stored and sent is read, and is stored and sent in the same bytes.
//!
//! The bytes are files in `golden/<version>/`, written once by the programs of that version ([`write`]) and only
//! read from then on. No daemon is needed. `golden/README.md` says what to do when a test here fails.

mod agent;
mod contract;
mod coordinator;
mod coverage;
mod credential;
mod documents;
mod golden;
mod store;
mod tables;
mod write;
