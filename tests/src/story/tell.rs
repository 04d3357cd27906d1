//! Plans and journal entries as a story tells them.

use lockstep_core::plan::action::{Endpoint, SwitchTraffic};
use lockstep_core::plan::{Action, OnFailure, Plan, Undo};
use lockstep_core::record::claim::Resolution;
use lockstep_core::run::engine;
use lockstep_core::run::engine::Run;
use lockstep_core::run::journal::{Certainty, Deferral, Direction, Event};

pub(super) fn plan(plan: &Plan) -> String {
    let mut text = String::new();
    for (number, wave) in plan.waves.iter().enumerate() {
        for step in &wave.steps {
            let note = match step.on_failure {
                OnFailure::Unwind => "",
                OnFailure::Note => " (housekeeping)",
            };
            let line = format!(
                "{} wave {} {} {}: {}{note}\n",
                step.id,
                number + 1,
                step.host_name,
                step.action.name(),
                step.change
            );
            text.push_str(&line);
        }
    }
    for warning in &plan.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

/// Where the steps that ask or send anything do so.
pub(super) fn endpoints(plan: &Plan) -> String {
    let list =
        |endpoints: &[Endpoint]| endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let of = |action: &Action| {
        if let Action::CheckHealth(check) | Action::Bake { check, .. } = action {
            return Some(list(&check.targets));
        }
        if let Action::SwitchTraffic(SwitchTraffic { endpoints, .. })
        | Action::DrainSlot { ports: endpoints, .. } = action
        {
            return Some(list(endpoints));
        }
        let Action::InstallSite { site, .. } = action else { return None };
        Some(format!("blue {}, green {}", list(&site.blue), list(&site.green)))
    };
    let mut text = String::new();
    for step in plan.steps() {
        let at = |action: &Action| of(action).map(|at| format!("{}: {at}", action.name()));
        if let Some(at) = at(&step.action) {
            text.push_str(&format!("{} {at}\n", step.id));
        }
        if let Undo::By { action, .. } = &step.undo
            && let Some(at) = at(action)
        {
            text.push_str(&format!("{} undo {at}\n", step.id));
        }
    }
    text
}

pub(super) fn event(event: &Event) -> String {
    let way = |direction: &Direction| match direction {
        Direction::Do => "",
        Direction::Undo => "undo ",
    };
    match event {
        Event::LockTaken { by } => format!("append taken by {by}"),
        Event::Begun { step, direction } => format!("append {}begun {step}", way(direction)),
        Event::Done { step, direction, .. } => format!("append {}done {step}", way(direction)),
        Event::Failed { step, direction, failure } => {
            let sure = match failure.certainty {
                Certainty::Failed => "failed",
                Certainty::Unknown => "unknown",
            };
            format!("append {}{sure} {step}: {}", way(direction), failure.what)
        }
        Event::Excluded { host, because } => format!("append passed by {host}, because of {because}"),
        Event::RevertStarted { because } => format!("append turned: {because:?}"),
        Event::Stuck { step, failure } => format!("append stuck at {step}: {}", failure.what),
        Event::Resumed { by } => format!("append resumed by {by}"),
        Event::UndoDeferred { step, how: Deferral::Pending { because, by } } => {
            let by = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
            format!("append owed {step}{by}: {because}")
        }
        Event::UndoDeferred { step, how: Deferral::Skipped { by } } => {
            format!("append skipped {step} by {by}")
        }
        Event::Ended { verdict } => format!("append ended: {verdict}"),
    }
}

/// The ways out, each with what it costs or the rule that it would break.
pub(super) fn ways(run: &Run) -> String {
    let mut text = String::new();
    for out in engine::resolutions(run) {
        let way = match out.resolution {
            Resolution::Retry => "--retry".to_owned(),
            Resolution::Unwind => "--unwind".to_owned(),
            Resolution::Skip { step } => format!("--skip {step}"),
        };
        let refused = out.refused.map(|rule| format!(" (refused: {rule})")).unwrap_or_default();
        text.push_str(&format!("{way}: {}{refused}\n", out.cost));
    }
    text
}
