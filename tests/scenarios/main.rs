//! Scenarios: the real programs on real parts, told through the command line as an operator uses it.
//!
//! Each asserts the exit code, the words that matter (what, why, next), and that nothing half-done is left. Bad input
//! has a named test for each case in `tests/cases`.

mod access;
mod control_plane;
mod deploying;
mod hosts;
mod images;
mod recovery;
mod reporting;
mod test_bed;
