//! What a step may do while a local rollback is not adopted: only what leaves the traffic where it is. Pure.
//!
//! What must stay true: whatever a driver assigns that does not know of the rollback, the slot with the traffic keeps
//! running and keeps the traffic. A refused step makes the deployment unwind to that state.

use lockstep_core::plan::Action;
use lockstep_core::record::local_rollback::LocalRollback;
use lockstep_core::run::journal::StepFailure;
use lockstep_core::slot::Slot;

/// Whether a step may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepPolicy {
    Goes,
    /// The step is done without an effect: the slot belongs to the local rollback.
    IsNothing,
    Refused,
}

/// Whether `action` may run while the slot `traffic` has the traffic.
pub fn step_policy(action: &Action, traffic: Slot) -> StepPolicy {
    let goes = match action {
        Action::Preflight(_)
        | Action::PresentImage(_)
        | Action::AdmitHosts(_)
        | Action::TakeSnapshot(_)
        | Action::CheckHealth(_)
        | Action::RestoreSite
        | Action::CleanUp(_) => true,
        Action::StopSlot { slot } if *slot == traffic => return StepPolicy::IsNothing,
        Action::StopSlot { .. } => true,
        Action::SwitchTraffic(switch) => switch.to == traffic,
        Action::MoveWorkers { start, .. } => *start == traffic,
        Action::Bake { check, .. } => check.slot == traffic,
        Action::DrainSlot { slot, .. } => *slot != traffic,
        // A migration may take away what the release needs that serves.
        Action::Migrate(_) | Action::StartSlot { .. } | Action::InstallSite { .. } | Action::RemoveSite => {
            false
        }
    };
    if goes { StepPolicy::Goes } else { StepPolicy::Refused }
}

/// The failure of a step that may not run.
pub fn refusal(held: &LocalRollback, traffic: Slot) -> StepFailure {
    StepFailure::new(format!("a local rollback moved the traffic of {} to {traffic}", held.environment))
        .why(format!(
            "{} moved it from {} to {} at {}; no step may move it again until a coordinator adopts the rollback",
            held.by, held.from, held.to, held.at
        ))
        .next(format!(
            "lockstep status {}    # a coordinator adopts it when no deployment is open",
            held.environment
        ))
}

#[cfg(test)]
mod tests {
    use lockstep_core::plan::action::SwitchTraffic;

    use super::*;

    fn switch(to: Slot) -> Action {
        Action::SwitchTraffic(SwitchTraffic {
            to,
            server_name: "notes.example".to_owned(),
            listen_port: 80,
            health_path: "/health".to_owned(),
            endpoints: Vec::new(),
            secrets_version: None,
        })
    }

    fn workers(start: Slot) -> Action {
        Action::MoveWorkers { stop: Some(start.other()), start, containers: Vec::new() }
    }

    #[test]
    fn nothing_moves_the_traffic_away_and_nothing_stops_what_has_it() {
        use Slot::{Blue, Green};
        for (action, wanted) in [
            (switch(Green), StepPolicy::Refused),
            (workers(Green), StepPolicy::Refused),
            (Action::StartSlot { slot: Blue, containers: Vec::new() }, StepPolicy::Refused),
            (Action::StartSlot { slot: Green, containers: Vec::new() }, StepPolicy::Refused),
            (Action::RemoveSite, StepPolicy::Refused),
            (Action::StopSlot { slot: Blue }, StepPolicy::IsNothing),
        ] {
            assert_eq!(step_policy(&action, Blue), wanted, "{action:?}");
        }
    }

    #[test]
    fn what_unwinds_to_where_the_traffic_is_goes() {
        use Slot::{Blue, Green};
        for action in [switch(Blue), workers(Blue), Action::StopSlot { slot: Green }, Action::RestoreSite] {
            assert_eq!(step_policy(&action, Blue), StepPolicy::Goes, "{action:?}");
        }
    }
}
