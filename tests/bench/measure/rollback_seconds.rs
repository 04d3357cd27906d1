//! `lockstep rollback`, from the command to its answer, beside the script's check and switch.

use anyhow::{Result, ensure};

use crate::by_hand::SCRIPT;
use crate::case::{Case, Effort};
use crate::ground::Ground;
use crate::report::{Limit, Measured};
use crate::statistics::{median, paired_ratio};

const ROUNDS: usize = 11;
const ROUNDS_OF_SAMPLE: usize = 5;

pub(super) fn measure(ground: &mut Ground, effort: Effort, say: &mut dyn FnMut(&str)) -> Result<Measured> {
    let rounds = effort.choose(ROUNDS, ROUNDS_OF_SAMPLE);
    let deployments = ground.both_slots()?;
    // Two slots of the script's own. It takes its snapshots of a database that is small as yet.
    ground.by_hand.deploy(&ground.first)?;
    ground.by_hand.deploy(&ground.newest)?;
    say("· rollback_seconds: there and back, both sides in turn");
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    // One of each first, which does not count.
    for round in 0..=rounds {
        let ours_took = ground.roll_back_to(&deployments[round % 2])?.as_secs_f64();
        let peer_took = ground.by_hand.back()?.took.as_secs_f64();
        if round > 0 {
            say(&format!("  {round:>2} of {rounds}: {ours_took:.3} s, by hand {peer_took:.3} s"));
            ours.push(ours_took);
            peers.push(peer_took);
        }
    }
    let last = ground.history()?.into_iter().next();
    ensure!(
        last.is_some_and(|last| last.steps.iter().all(|step| !step.name.contains("start"))),
        "a rollback started containers: it was no switch"
    );
    Ok(Measured {
        case: Case::RollbackSeconds,
        unit: "seconds, command to answer",
        ours: median(&ours),
        peer: median(&peers),
        peer_name: SCRIPT,
        interval: paired_ratio(&ours, &peers).map(|ratio| ratio.interval),
        limit: Limit::OursBelow(1.0),
    })
}
