//! Canaries: secrets that are easy to find, and the search for them in everything that was written or shown.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::bed::wait::until;
use crate::scene::Scene;

const WATCH_LIMIT: Duration = Duration::from_secs(300);

/// The value of the secret that the first releases have.
pub const JWT: &str = "canary-jwt-4d1f2a9c77";

/// The value that takes its place.
pub const NEXT_JWT: &str = "canary-jwt-next-81be03";

pub fn canaries(scene: &Scene) -> Result<Vec<String>> {
    let url = scene.stage.postgres.url();
    let password = url.split([':', '@']).nth(2).context("the URL has a password")?;
    Ok(vec![password.to_owned(), JWT.to_owned(), NEXT_JWT.to_owned(), "canary-printed".to_owned()])
}

/// Everything that Lockstep has written on this machine, byte by byte.
pub fn assert_files_are_clean(scene: &Scene, canaries: &[String]) -> Result<()> {
    let mut seen = Vec::new();
    for part in ["agent", "coordinator", "operator", "nginx", "agent.log", "coordinator.log"] {
        look_through(&scene.stage.directory.join(part), canaries, &mut seen)?;
    }
    let project = scene.stage.deployment_yml();
    look_through(&project, canaries, &mut seen)?;
    for wanted in ["store.sqlite", "journal.sqlite", "agent.log", "coordinator.log"] {
        ensure!(seen.iter().any(|name| name.ends_with(wanted)), "{wanted} was not looked at: {seen:?}");
    }
    let own = scene.stage.env_file();
    ensure!(
        assert_clean("the file of secrets", &fs::read(own)?, canaries).is_err(),
        "the search finds nothing"
    );
    Ok(())
}

fn look_through(path: &Path, canaries: &[String], seen: &mut Vec<String>) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            look_through(&entry?.path(), canaries, seen)?;
        }
    } else if path.is_file() {
        seen.push(path.display().to_string());
        assert_clean(&path.display().to_string(), &fs::read(path)?, canaries)?;
    }
    Ok(())
}

pub fn assert_clean(what: &str, bytes: &[u8], canaries: &[String]) -> Result<()> {
    for canary in canaries {
        if bytes.windows(canary.len()).any(|window| window == canary.as_bytes()) {
            bail!("{what} has the secret {canary}");
        }
    }
    Ok(())
}

/// Looks at the arguments of all processes while something runs.
pub struct ProcessWatch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<usize>>,
}

impl ProcessWatch {
    pub fn start(canaries: &[String]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, canaries) = (Arc::clone(&stop), canaries.to_vec());
        let thread = thread::spawn(move || {
            let mut looks = 0;
            until("the watch is ended", WATCH_LIMIT, || {
                look_at_processes(&canaries)?;
                looks += 1;
                Ok(stopped.load(Ordering::Relaxed))
            })?;
            Ok(looks)
        });
        Self { stop, thread }
    }

    pub fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let looks = self.thread.join().map_err(|_| anyhow::anyhow!("the watch has panicked"))??;
        ensure!(looks > 20, "the process list was looked at only {looks} times");
        Ok(())
    }
}

/// The arguments of every process, as everybody on the machine sees them.
fn look_at_processes(canaries: &[String]) -> Result<()> {
    for entry in fs::read_dir("/proc")? {
        let arguments = entry?.path().join("cmdline");
        // What is no process, and one that has ended meanwhile, has none.
        if let Ok(arguments) = fs::read(arguments) {
            assert_clean(&String::from_utf8_lossy(&arguments), &arguments, canaries)?;
        }
    }
    Ok(())
}
