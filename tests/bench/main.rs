//! `make bench`: measures Lockstep beside what somebody would do instead, and says whether its limits hold.
//!
//! Arguments name the cases, none means all; after `--from REVISION` they are measured beside the programs of that
//! revision, and none means the usual ones. `LOCKSTEP_BENCH_MB` is the size of the database that is dumped,
//! `LOCKSTEP_BENCH_HOSTS` the most hosts that are deployed to, `LOCKSTEP_BENCH_ENVIRONMENTS` the most environments of one
//! coordinator. The report is `target/bench/report.json`; a limit that
//! does not hold makes the exit code 1.
//!
//! A sample for a comparison is this program again, with `LOCKSTEP_BENCH_SAMPLE` naming its report and
//! `LOCKSTEP_PROGRAMS` the folder of the programs.

mod by_hand;
mod case;
mod compare;
mod ground;
mod measure;
mod report;
mod resources;
mod revision;
mod simulated;
mod statistics;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use lockstep_tests::bed::place::Place;
use lockstep_tests::bed::program::interrupt::unless_interrupted;
use lockstep_tests::bed::program::process::PROGRAMS;
use lockstep_tests::bed::program::run;

use crate::case::{Case, Effort, Extent};
use crate::compare::Comparison;
use crate::measure::measure_cases;
use crate::report::Measured;

const DATABASE_MIB: u64 = 1024;

const HOSTS_MAX: usize = 1000;

const ENVIRONMENTS_MAX: usize = 1000;

/// A sample's: there are many of them.
const DATABASE_MIB_OF_SAMPLE: u64 = 256;
const HOSTS_MAX_OF_SAMPLE: usize = 100;
const ENVIRONMENTS_MAX_OF_SAMPLE: usize = 100;

/// Names a sample's report.
const SAMPLE: &str = "LOCKSTEP_BENCH_SAMPLE";

/// What is asked for.
struct Arguments {
    from: Option<String>,
    cases: Vec<Case>,
}

fn main() -> ExitCode {
    match unless_interrupted(bench) {
        // A sample holds no limit: those are of all of them.
        Ok(_) if env::var_os(SAMPLE).is_some() => ExitCode::SUCCESS,
        Ok(measured) if measured.iter().all(Measured::limit_holds) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<Vec<Measured>> {
    let arguments = arguments(env::args().skip(1))?;
    let target = target_directory();
    fs::create_dir_all(&target)?;
    if cfg!(debug_assertions) {
        say("note: this is a debug build; `make bench` measures release builds");
    }
    let measured = match &arguments.from {
        Some(from) => compare(&target, from, &arguments.cases)?,
        None => {
            let place = Place::choose(&target)?;
            measure_cases(&place.directory, &arguments.cases, extent()?, &mut say)?
        }
    };
    if let Some(report) = env::var_os(SAMPLE) {
        report::write(Path::new(&report), &measured)?;
        return Ok(measured);
    }
    report::write(&target.join("report.json"), &measured)?;
    say(&format!("\n{}the whole report: target/bench/report.json", report::table(&measured)));
    Ok(measured)
}

fn extent() -> Result<Extent> {
    let usual = match env::var_os(SAMPLE) {
        Some(_) => Extent {
            database_mib: DATABASE_MIB_OF_SAMPLE,
            hosts_max: HOSTS_MAX_OF_SAMPLE,
            environments_max: ENVIRONMENTS_MAX_OF_SAMPLE,
            effort: Effort::Sample,
        },
        None => Extent {
            database_mib: DATABASE_MIB,
            hosts_max: HOSTS_MAX,
            environments_max: ENVIRONMENTS_MAX,
            effort: Effort::Whole,
        },
    };
    let at_most = |name, usual| -> Result<usize> { Ok(number(name)?.map_or(Ok(usual), usize::try_from)?) };
    Ok(Extent {
        database_mib: number("LOCKSTEP_BENCH_MB")?.unwrap_or(usual.database_mib),
        hosts_max: at_most("LOCKSTEP_BENCH_HOSTS", usual.hosts_max)?,
        environments_max: at_most("LOCKSTEP_BENCH_ENVIRONMENTS", usual.environments_max)?,
        effort: usual.effort,
    })
}

/// Our programs beside those of the revision `from`.
fn compare(target: &Path, from: &str, cases: &[Case]) -> Result<Vec<Measured>> {
    let repository = target.parent().and_then(Path::parent).context("the target is in the repository")?;
    let theirs = revision::build(repository, target, from, &mut say)?;
    let this = env::current_exe()?;
    let ours = this.parent().context("this program is in a folder")?;
    let report = target.join("sample.json");
    let mut sample = |cases: &[Case], programs: &Path| {
        let mut command = Command::new(&this);
        command.args(cases.iter().map(|case| case.name())).env(PROGRAMS, programs).env(SAMPLE, &report);
        run(&mut command)?;
        Ok(report.clone())
    };
    say(&format!("· ours beside {}", theirs.commit));
    Comparison { ours, theirs: &theirs.programs, sample: &mut sample }.measure(cases, &mut say)
}

fn arguments(mut arguments: impl Iterator<Item = String>) -> Result<Arguments> {
    let (mut from, mut cases) = (None, Vec::new());
    while let Some(argument) = arguments.next() {
        if argument == "--from" {
            from = Some(arguments.next().context("--from which revision?")?);
        } else {
            cases.push(case(&argument)?);
        }
    }
    if cases.is_empty() {
        cases = if from.is_some() { Case::COMPARED.to_vec() } else { Case::ALL.to_vec() };
    }
    Ok(Arguments { from, cases })
}

fn case(name: &str) -> Result<Case> {
    let known = || Case::ALL.map(Case::name).join(", ");
    Case::by_name(name).with_context(|| format!("{name} is not a case; known are {}", known()))
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
