//! `make bench`: measures Lockstep beside what somebody would do instead, and says whether its limits hold.
//!
//! Arguments name the cases, none means all. `LOCKSTEP_BENCH_MB` is the size of the database that is
//! dumped, `LOCKSTEP_BENCH_HOSTS` the most hosts that are deployed to. The report is `target/bench/report.json`; a limit that does not hold makes the exit code 1.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use lockstep_tests::bed::interrupt::unless_interrupted;
use lockstep_tests::bed::place::Place;
use lockstep_tests::bench::report::{self, Measured};
use lockstep_tests::bench::{Case, Effort, Extent, measure};

const DATABASE_MIB: u64 = 1024;

const HOSTS_MAX: usize = 1000;

fn main() -> ExitCode {
    match unless_interrupted(bench) {
        Ok(measured) if measured.iter().all(Measured::limit_holds) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<Vec<Measured>> {
    let cases = cases(env::args().skip(1))?;
    let extent = Extent {
        database_mib: number("LOCKSTEP_BENCH_MB")?.unwrap_or(DATABASE_MIB),
        hosts_max: number("LOCKSTEP_BENCH_HOSTS")?.map_or(Ok(HOSTS_MAX), usize::try_from)?,
        effort: Effort::Whole,
    };
    let target = target_directory();
    fs::create_dir_all(&target)?;
    let place = Place::choose(&target)?;
    if cfg!(debug_assertions) {
        say("note: this is a debug build; `make bench` measures release builds");
    }
    let measured = measure(&place.directory, &cases, extent, &mut say)?;
    report::write(&target.join("report.json"), &measured)?;
    say(&format!("\n{}the whole report: target/bench/report.json", report::table(&measured)));
    Ok(measured)
}

fn cases(arguments: impl Iterator<Item = String>) -> Result<Vec<Case>> {
    let known = Case::ALL.map(Case::name).join(", ");
    let named = arguments
        .map(|name| Case::by_name(&name).with_context(|| format!("{name} is not a case; known are {known}")))
        .collect::<Result<Vec<Case>>>()?;
    Ok(if named.is_empty() { Case::ALL.to_vec() } else { named })
}

/// What the variable of this name says; nothing where it is not there.
fn number(name: &str) -> Result<Option<u64>> {
    let Ok(text) = env::var(name) else { return Ok(None) };
    match text.parse() {
        Ok(number) if number > 0 => Ok(Some(number)),
        Ok(_) | Err(_) => bail!("{name} is a number, and not {text:?}"),
    }
}

#[expect(clippy::print_stdout, reason = "this program is there to show")]
fn say(text: &str) {
    println!("{text}");
}

fn target_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests live in the workspace")
        .join("target/bench")
}
