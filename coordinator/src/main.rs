//! `lockstep-coordinator`: settings, log, service.

use std::process::ExitCode;

use clap::Parser;
use lockstep_coordinator::ports::metrics::SERVICE;
use lockstep_coordinator::program::settings::{Arguments, Command, Settings};
use lockstep_coordinator::program::{joining, rekey, restore, service};
use lockstep_runtime::telemetry::Telemetry;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::error;

// The simulation builds the library with deliberate bugs; the program is never one of them.
const _: () = assert!(!lockstep_mutant::BUILT_IN);

fn main() -> ExitCode {
    let Arguments { settings, command } = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    let entered = runtime.enter();
    let telemetry = match begin_telemetry(&settings, command.as_ref()) {
        Ok(telemetry) => telemetry,
        // There is no log to say it in.
        Err(error) => return fail(&format!("{error:#}")),
    };
    drop(entered);
    let ended = runtime.block_on(async {
        match command {
            None => serve(settings).await,
            Some(Command::Restore { file }) => restore::restore(&settings, &file).await,
            Some(Command::Join { coordinator, name }) => joining::join(&settings, &coordinator, name).await,
            Some(Command::Rekey) => rekey::rekey(&settings).await,
        }
    });
    let code = match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    };
    telemetry.end();
    code
}

/// Only a coordinator that serves has something to tell a collector.
fn begin_telemetry(settings: &Settings, command: Option<&Command>) -> anyhow::Result<Telemetry> {
    let otlp = match command {
        None => settings.otlp()?,
        Some(Command::Restore { .. } | Command::Join { .. } | Command::Rekey) => None,
    };
    Ok(lockstep_runtime::telemetry::begin(SERVICE, &settings.log, otlp.as_ref())?)
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let service = service::run(settings, stop.clone());
    tokio::pin!(service);
    tokio::select! {
        ended = &mut service => return ended,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    lockstep_runtime::systemd::stopping();
    stop.cancel();
    service.await
}

#[expect(clippy::print_stderr, reason = "there is no log yet")]
fn fail(why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::FAILURE
}
