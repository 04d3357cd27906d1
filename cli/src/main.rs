//! `lockstep`: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use lockstep::args::{Arguments, Format};
use lockstep::command;
use lockstep::failure::{Failure, Kind};
use lockstep::output::Output;
use lockstep::usage::{asks_for_json, usage_failure};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() && asks_for_json(std::env::args_os()) => {
            Output::new(Format::Json).failure(&usage_failure(&error));
            return ExitCode::from(Kind::Usage as u8);
        }
        Err(error) => error.exit(),
    };
    let output = Output::new(arguments.output);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.failure(&Failure::new(Kind::Usage, "cannot begin").why(error.to_string()));
            return ExitCode::from(Kind::Usage as u8);
        }
    };
    // What has an end to tell has not told it; any other answer was as long as somebody read it.
    let unread = match arguments.command.reports_end() {
        true => ExitCode::from(Kind::Unread as u8),
        false => ExitCode::SUCCESS,
    };
    match runtime.block_on(command::run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.kind == Kind::Unread => unread,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.kind as u8)
        }
    }
}
