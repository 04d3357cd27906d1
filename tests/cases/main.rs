//! Bad input, hosts that are not ready, releases that cannot serve, and callers without the right: a named test for
//! each case. `cargo test --test cases -- --list` shows them.

mod declaration;
mod foreign_host;
mod group;
mod identity;
mod image_transfer;
mod releases;
mod screens;
mod stuck;
mod unready_hosts;

use std::process::ExitCode;

use libtest_mimic::Arguments;

use crate::group::SharedStage;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share a stage.
    arguments.test_threads = Some(1);
    let shared = SharedStage::default();
    let trials = [
        declaration::cases(&shared),
        identity::cases(&shared),
        image_transfer::cases(&shared),
        foreign_host::cases(&shared),
        releases::cases(&shared),
        screens::cases(&shared),
        stuck::cases(&shared),
        unready_hosts::cases(&shared),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials.into_iter().flatten().collect());
    shared.close();
    conclusion.exit_code()
}
