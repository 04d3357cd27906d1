//! `lockstep`: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use lockstep::args::Arguments;
use lockstep::command;
use lockstep::output::Output;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.output);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.remark(&format!("error: cannot begin: {error}"));
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(command::run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.kind as u8)
        }
    }
}
