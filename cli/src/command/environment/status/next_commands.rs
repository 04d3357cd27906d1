//! The commands that make sense while an environment is locked, each with its effect.

use lockstep_core::name::EnvironmentKey;
use lockstep_core::record::claim::{ClaimKind, Resolution};
use lockstep_core::run::journal::Direction;
use lockstep_core::view::environment::{ClaimStatus, TrafficMoved};

/// A command that makes sense now, and what it does or costs.
pub(super) struct NextCommand {
    pub(super) command: String,
    pub(super) effect: String,
}

impl NextCommand {
    fn new(command: String, effect: &str) -> Self {
        Self { command, effect: effect.to_owned() }
    }
}

/// The commands that make sense while an environment is locked.
pub(super) fn next_commands(key: &EnvironmentKey, status: &ClaimStatus) -> Vec<NextCommand> {
    let cost = match status.traffic_moved {
        TrafficMoved::NotYet => "the traffic is not touched",
        TrafficMoved::Moved => "the traffic goes back to the release before",
    };
    match (&status.open.kind, status.direction) {
        (ClaimKind::Freeze { .. }, _) => Vec::new(),
        (ClaimKind::Building { .. }, _) => {
            vec![NextCommand::new(format!("lockstep cancel {key}"), "the image is not deployed")]
        }
        (ClaimKind::Stuck { deployment }, _) => {
            let show =
                NextCommand::new(format!("lockstep show {deployment}"), "what was not reverted, and why");
            let possible = status.resolutions.iter().filter(|option| option.refused.is_none());
            let resolve = possible.map(|option| {
                let flag = match option.resolution {
                    Resolution::Retry => "--retry".to_owned(),
                    Resolution::Unwind => "--unwind".to_owned(),
                    Resolution::Skip { step } => format!("--skip {step}"),
                };
                NextCommand::new(format!("lockstep resolve {deployment} {flag}"), &option.cost)
            });
            [show].into_iter().chain(resolve).collect()
        }
        (ClaimKind::Running { deployment, .. }, Direction::Undo) => {
            vec![NextCommand::new(format!("lockstep watch {deployment}"), "")]
        }
        (ClaimKind::Running { deployment, .. }, Direction::Do) => vec![
            NextCommand::new(format!("lockstep watch {deployment}"), ""),
            NextCommand::new(format!("lockstep cancel {key}"), cost),
        ],
    }
}
