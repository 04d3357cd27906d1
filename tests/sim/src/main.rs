//! `sim`: runs schedules, repeats one and tells it, or shows which deliberate bug is caught how soon.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lockstep_mutant::Mutant;
use lockstep_sim::fault::Fault;
use lockstep_sim::invariant::Violation;
use lockstep_sim::many::{Range, Sum, many};
use lockstep_sim::run::{Pasts, Telling, run};

// A run is made of many small allocations.
#[cfg(feature = "simulate")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Simulated deployments, each from one seed.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many schedules.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Stop after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Run this one, and tell what happens.
    #[arg(long, conflicts_with_all = ["seeds", "from", "mutants"])]
    seed: Option<u64>,
    /// Run with this deliberate bug.
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    /// Run with each deliberate bug until it is caught.
    #[arg(long)]
    mutants: bool,
}

/// How many schedules a deliberate bug may survive.
const SURVIVES_MAX: u64 = 50_000;

/// How many schedules are run twice, to see that they are the same.
const COMPARED: u64 = 20;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !lockstep_mutant::BUILT_IN {
        let command = "cargo run --profile sim -p lockstep-sim --features simulate -- --seeds 10000";
        return say(
            &format!("error: this build has no clock that jumps\n  next: {command}"),
            ExitCode::from(2),
        );
    }
    if arguments.mutants {
        return mutants(arguments.threads);
    }
    if let Some(name) = &arguments.mutant {
        let Some(mutant) = Mutant::ALL.iter().find(|mutant| format!("{mutant:?}") == *name) else {
            return say(&format!("there is no deliberate bug {name}"), ExitCode::from(2));
        };
        lockstep_mutant::switch_on(Some(*mutant));
    }
    match arguments.seed {
        Some(seed) => tell(seed),
        None => run_many(&arguments),
    }
}

fn tell(seed: u64) -> ExitCode {
    let outcome = run(seed, &Pasts::default(), Telling::Yes);
    for line in &outcome.lines {
        say(line, ExitCode::SUCCESS);
    }
    match outcome.violation {
        None => say(&format!("seed {seed}: nothing is broken"), ExitCode::SUCCESS),
        Some(violation) => failed(seed, &violation),
    }
}

fn run_many(arguments: &Arguments) -> ExitCode {
    let pasts = Pasts::default();
    for seed in arguments.from..arguments.from + COMPARED.min(arguments.seeds) {
        let (first, second) = (run(seed, &pasts, Telling::Yes), run(seed, &pasts, Telling::Yes));
        if first.digest != second.digest || first.lines != second.lines {
            return say(&format!("seed {seed} did not do the same twice"), ExitCode::FAILURE);
        }
    }
    let range = Range {
        from: arguments.from,
        seeds: arguments.seeds,
        limit: arguments.seconds.map(Duration::from_secs),
        threads: arguments.threads,
    };
    let sum = many(&range, &pasts);
    summary(&sum);
    match &sum.failure {
        None => ExitCode::SUCCESS,
        Some((seed, violation)) => failed(*seed, violation),
    }
}

fn summary(sum: &Sum) {
    let mut text = format!(
        "{} schedules in {:.1} s: {:.0} a second, {:.0} a minute\n{} events, {} faults ({:.1} a schedule), {} states covered\n",
        sum.schedules,
        sum.took.as_secs_f64(),
        sum.a_second(),
        sum.a_second() * 60.0,
        sum.events,
        sum.faults(),
        sum.faults() as f64 / sum.schedules.max(1) as f64,
        sum.states.len(),
    );
    for fault in Fault::ALL {
        text.push_str(&format!("  {:<20} {:>10}\n", fault.name(), sum.struck[*fault as usize]));
    }
    say(text.trim_end(), ExitCode::SUCCESS);
}

fn mutants(threads: usize) -> ExitCode {
    let mut survivors = 0;
    let pasts = Pasts::default();
    // Made while nothing is wrong.
    let calm = many(&Range { from: 0, seeds: 200, limit: None, threads }, &pasts);
    if let Some((seed, violation)) = &calm.failure {
        return failed(*seed, violation);
    }
    for mutant in Mutant::ALL {
        lockstep_mutant::switch_on(Some(*mutant));
        let sum = many(&Range { from: 0, seeds: SURVIVES_MAX, limit: None, threads }, &pasts);
        lockstep_mutant::switch_on(None);
        let name = format!("{mutant:?}");
        let line = match &sum.failure {
            Some((_, Violation { invariant, what })) => {
                format!("{name:<30} {:>6}  {invariant}: {what}", sum.schedules)
            }
            None => {
                survivors += 1;
                format!("{name:<30} {:>6}  SURVIVES: {}", sum.schedules, mutant.what())
            }
        };
        say(&line, ExitCode::SUCCESS);
    }
    let all = Mutant::ALL.len();
    let code = if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    say(&format!("{} of {all} deliberate bugs are caught", all - survivors), code)
}

fn failed(seed: u64, violation: &Violation) -> ExitCode {
    let Violation { invariant, what } = violation;
    say(
        &format!("seed {seed} breaks \"{invariant}\": {what}\n  next: make sim SEED={seed}"),
        ExitCode::FAILURE,
    )
}

#[expect(clippy::print_stdout, reason = "this program is for people")]
fn say(text: &str, code: ExitCode) -> ExitCode {
    println!("{text}");
    code
}
