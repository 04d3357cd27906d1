//! Notes: a small web service and its worker, in one binary.
//!
//! `notes serve` (or no word at all) answers HTTP; `notes work` does the jobs
//! that new notes leave behind. Both end on SIGTERM after what they have begun.

mod database;
mod health;
mod settings;
mod web;
mod work;

use std::env;
use std::process::ExitCode;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::settings::Settings;

#[tokio::main]
async fn main() -> ExitCode {
    if let Some(code) = settings::exit_at_start() {
        eprintln!("notes: ends at once with code {code}, because NOTES_EXIT says so");
        return ExitCode::from(code);
    }
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("notes: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let settings = Settings::from_environment()?;
    let stop = stop_requested()?;
    match env::args().nth(1).as_deref() {
        None | Some("serve") => web::serve(settings, stop).await,
        Some("work") => work::work(settings, stop).await,
        Some(other) => bail!("{other:?} is not known: say `serve` or `work`"),
    }
}

/// Turns true once, when the process is asked to end.
fn stop_requested() -> anyhow::Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        println!("asked to end: finishing what was begun");
        sender.send_replace(true);
        // Receivers treat a closed channel as an error, so it stays open.
        sender.closed().await;
    });
    Ok(receiver)
}
