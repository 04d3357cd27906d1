//! A plan without one of its app hosts: what is left to do when that host is excluded.
//!
//! What must stay true: the result is the plan that would have been made without the host, and it follows the same
//! rules. Steps keep their numbers.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};

use lockstep_mutant::{Mutant, is_on};

use crate::id::HostId;
use crate::plan::action::{CleanUp, Endpoint, Preflight};
use crate::plan::operation::OperationKind;
use crate::plan::{Action, Plan, check};

/// `plan` without `host`.
///
/// # Errors
/// Why the host cannot be excluded.
pub fn without_host(plan: &Plan, host: &HostId) -> Result<Plan, String> {
    let Some(quorum) = plan.spec.deploy.quorum else {
        return Err("deployment.yml sets no deploy.quorum".to_string());
    };
    if plan.kind != OperationKind::Deploy {
        return Err("only a deployment excludes hosts".to_string());
    }
    let of_host = || plan.steps().filter(|step| step.host == *host);
    let Some(host_name) = plan.host_name(host) else {
        return Err(format!("the plan has no step on {host}"));
    };
    if let Some(step) = of_host().find(|step| !is_of_application(&step.action)) {
        return Err(format!("other hosts need a step on {host_name}: {}", step.action.name()));
    }
    let endpoints: BTreeSet<Endpoint> = of_host().flat_map(|step| step.action.starts()).collect();
    let mut rest = plan.clone();
    rest.serving.retain(|serving| serving != host_name);
    if rest.serving.len() < usize::from(quorum) {
        return Err(format!(
            "app hosts that would be left: {}, and deploy.quorum is {quorum}",
            rest.serving.len()
        ));
    }
    rest.excluded.push(host_name.clone());
    for wave in &mut rest.waves {
        wave.steps.retain(|step| step.host != *host);
        for step in &mut wave.steps {
            if !is_on(Mutant::PassedByServes) {
                step.action.forget(&endpoints);
            }
        }
        wave.steps.retain(|step| !has_no_endpoints(&step.action));
    }
    rest.waves.retain(|wave| !wave.steps.is_empty());
    if !rest.steps().any(|step| matches!(step.action, Action::InstallSite { .. })) {
        return Err("the plan has no step that changes the nginx site".to_string());
    }
    match check::check(&rest).first() {
        None => Ok(rest),
        Some(broken) => Err(broken.to_string()),
    }
}

/// Whether only the app host itself depends on the action.
fn is_of_application(action: &Action) -> bool {
    match action {
        Action::Preflight(Preflight { app: _, lb, db }) => lb.is_none() && db.is_none(),
        Action::CleanUp(CleanUp { snapshots, .. }) => snapshots.is_none(),
        Action::PresentImage(_) | Action::StartSlot { .. } | Action::MoveWorkers { .. } => true,
        Action::AdmitHosts(_)
        | Action::TakeSnapshot(_)
        | Action::Migrate(_)
        | Action::StopSlot { .. }
        | Action::CheckHealth(_)
        | Action::InstallSite { .. }
        | Action::RemoveSite
        | Action::RestoreSite
        | Action::SwitchTraffic(_)
        | Action::Bake { .. }
        | Action::DrainSlot { .. } => false,
    }
}

/// Whether it checks only endpoints of excluded hosts.
fn has_no_endpoints(action: &Action) -> bool {
    matches!(action, Action::CheckHealth(check) if check.targets.is_empty())
}
