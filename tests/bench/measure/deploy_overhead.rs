//! A whole deployment with a snapshot of a database that has some size: ours beside the script's.
//!
//! Both deploy to the same database in turn, the first of a pair changing from pair to pair; each image
//! has exactly one migration more than the one before it, so each deployment has exactly one to run. What
//! ours does beyond the script: a digest of every file of the snapshot, images that nobody needs removed,
//! a plan, a journal, mTLS, and the traffic counted.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_core::plan::operation::OperationKind;
use lockstep_core::record::history::DeploymentSummary;

use crate::by_hand::SCRIPT;
use crate::case::{Case, Extent};
use crate::ground::Ground;
use crate::report::{Limit, Measured};
use crate::statistics::{median, paired_ratio};
use lockstep_tests::bed::program::run;

const PAIRS: usize = 11;
const PAIRS_OF_SAMPLE: usize = 3;

/// What one unit of pgbench's scale weighs, with its index.
const MIB_OF_SCALE: f64 = 14.95;

/// The schema that the example application's own migrations end with.
const FIRST_SCHEMA: usize = 2;

#[derive(Clone, Copy)]
enum Side {
    Ours,
    ByHand,
}

/// What the deployments of both sides took.
#[derive(Default)]
struct Times {
    ours: Vec<f64>,
    by_hand: Vec<f64>,
    script_steps: BTreeMap<String, Vec<f64>>,
}

pub(super) fn measure(ground: &mut Ground, extent: Extent, say: &mut dyn FnMut(&str)) -> Result<Measured> {
    let pairs = extent.effort.choose(PAIRS, PAIRS_OF_SAMPLE);
    let size = fill(ground, extent.database_mib)?;
    say(&format!("· deploy_overhead: a database of {size} MiB; building an image for each deployment"));
    let images = images(ground, pairs)?;
    say(&format!("  {pairs} pairs, each deployment with a snapshot and one migration"));
    let mut times = Times::default();
    let mut deployments = images.iter();
    // One pair first, which does not count.
    for pair in 0..=pairs {
        let order = if pair % 2 == 0 { [Side::Ours, Side::ByHand] } else { [Side::ByHand, Side::Ours] };
        for side in order {
            let (schema, image) = deployments.next().context("there is an image for each deployment")?;
            // What the one before left to be written is not its successor's to wait for.
            run(&mut Command::new("sync"))?;
            deploy(ground, side, image, &mut times)?;
            assert_schema(ground, *schema)?;
        }
        if pair == 0 {
            times = Times::default();
        } else if let (Some(ours), Some(by_hand)) = (times.ours.last(), times.by_hand.last()) {
            say(&format!("  {pair:>2} of {pairs}: {ours:.3} s, by hand {by_hand:.3} s"));
        }
    }
    say(&where_time_goes(&ground.history()?, &times)?);
    Ok(Measured {
        case: Case::DeployOverhead,
        unit: "seconds",
        ours: median(&times.ours),
        peer: median(&times.by_hand),
        peer_name: SCRIPT,
        interval: paired_ratio(&times.ours, &times.by_hand).map(|ratio| ratio.interval),
        limit: Limit::RatioAtMost(0.95),
    })
}

/// Fills the database with pgbench's tables; gives its size.
fn fill(ground: &Ground, mib: u64) -> Result<u64> {
    let there = size_mib(ground)?;
    let scale = ((mib.saturating_sub(there)) as f64 / MIB_OF_SCALE).round().max(1.0);
    let mut pgbench = Command::new(ground.stage.postgres.programs().join("pgbench"));
    pgbench.args(["--initialize", "--quiet", "--scale", &scale.to_string()]);
    run(pgbench.envs(ground.by_hand.environment()))?;
    ground.stage.postgres.psql("CHECKPOINT")?;
    size_mib(ground)
}

fn size_mib(ground: &Ground) -> Result<u64> {
    Ok(ground.stage.postgres.psql("SELECT pg_database_size('notes') / (1024 * 1024)")?.parse()?)
}

/// The schema and the image of each deployment, each on top of the one before it.
fn images(ground: &mut Ground, pairs: usize) -> Result<Vec<(usize, String)>> {
    let mut images: Vec<(usize, String)> = Vec::new();
    for number in 1..=(pairs + 1) * 2 {
        let schema = FIRST_SCHEMA + number;
        let base = images.last().map_or(&ground.newest, |(_, image)| image).clone();
        let file = format!("{schema:06}_bench.up.sql");
        let sql = format!("CREATE TABLE bench_{schema} (id bigint PRIMARY KEY);\n");
        let version = format!("schema-{schema}");
        images.push((schema, ground.stage.image_with_migrations(&version, &base, &[(&file, &sql)])?));
    }
    Ok(images)
}

fn deploy(ground: &Ground, side: Side, image: &str, times: &mut Times) -> Result<()> {
    match side {
        Side::Ours => {
            let took = ground.deploy(image)?;
            times.ours.push(took.as_secs_f64());
        }
        Side::ByHand => {
            let ran = ground.by_hand.deploy(image)?;
            times.by_hand.push(ran.took.as_secs_f64());
            for (step, seconds) in ran.steps {
                times.script_steps.entry(step).or_default().push(seconds);
            }
        }
    }
    Ok(())
}

/// A deployment that did not migrate would be fast for no good reason.
fn assert_schema(ground: &Ground, schema: usize) -> Result<()> {
    let there = ground.stage.postgres.psql("SELECT version, dirty FROM schema_migrations")?;
    ensure!(there == format!("{schema}|f"), "the schema is {there}, and not {schema} after its deployment");
    Ok(())
}

/// The steps of both sides, by their medians.
fn where_time_goes(history: &[DeploymentSummary], times: &Times) -> Result<String> {
    let deployments: Vec<&DeploymentSummary> = history
        .iter()
        .filter(|summary| summary.kind == OperationKind::Deploy)
        .take(times.ours.len())
        .collect();
    let mut steps: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut whole = Vec::new();
    let mut order = Vec::new();
    for deployment in &deployments {
        ensure!(deployment.receipt.snapshot.is_some(), "{} has no snapshot", deployment.id);
        let ended = deployment.ended_at.context("a deployment in the history has ended")?;
        whole.push(Duration::from_millis(ended.since(deployment.opened_at).0).as_secs_f64());
        for step in &deployment.steps {
            if !order.contains(&step.name.as_str()) {
                order.push(&step.name);
            }
            steps.entry(&step.name).or_default().push(Duration::from_millis(step.took.0).as_secs_f64());
        }
    }
    let mut text = "  where the time goes, by medians in seconds:\n    ours:   ".to_owned();
    let mut in_steps = 0.0;
    for name in order {
        let seconds = median(&steps[name]);
        in_steps += seconds;
        text.push_str(&format!(" {name} {seconds:.3},"));
    }
    let whole = median(&whole);
    text.push_str(&format!(
        " between steps {:.3}, before and after {:.3}\n    script: ",
        whole - in_steps,
        median(&times.ours) - whole
    ));
    let script: Vec<String> =
        times.script_steps.iter().map(|(step, seconds)| format!(" {step} {:.3}", median(seconds))).collect();
    text.push_str(&script.join(","));
    Ok(text)
}
