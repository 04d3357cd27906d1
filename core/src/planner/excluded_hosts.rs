//! Declared app hosts that a plan leaves out: drained ones, and unreachable ones if a quorum is left.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::host::Host;
use crate::name::{EnvironmentKey, HostName};
use crate::plan::Omission;
use crate::planner::{Placement, PlanRefusal};
use crate::record::Record;
use crate::spec::{EnvironmentSpec, HostRoles};

/// What a host that is left out runs would go on running, workers and all.
pub(super) fn refuse_without_a_host_that_serves(
    spec: &EnvironmentSpec,
    serving: &[&Host],
    placement: &Placement<'_>,
    left_out: &[ExcludedHost],
) -> Result<(), PlanRefusal> {
    let is_known = |host: &Host| left_out.iter().any(|there| there.host == host.name);
    let Some(left_out) = serving.iter().find(|host| !placement.is_app(host) && !is_known(host)) else {
        return Ok(());
    };
    Err(PlanRefusal::new(
        format!("{} serves {}, but deployment.yml does not name it", left_out.name, spec.key),
        "its containers would keep running beside the new ones",
        format!(
            "lockstep host remove {1} {0}    # or add {0} to hosts.app in deployment.yml",
            left_out.name, spec.key
        ),
    ))
}

/// A host that was drained stays so: who drained it has a reason, and says when it is over.
pub(super) fn without_drained(
    spec: &EnvironmentSpec,
    record: &Record,
) -> Result<(Vec<ExcludedHost>, HostRoles), PlanRefusal> {
    let is_drained = |name: &&HostName| record.live.as_ref().is_some_and(|live| live.is_drained(name));
    let (drained, app): (Vec<_>, Vec<_>) = spec.hosts.app.iter().partition(is_drained);
    if let (Some(first), []) = (drained.first(), app.as_slice()) {
        return Err(PlanRefusal::new(
            format!("every app host of {} is drained", spec.key),
            "a release needs at least one app host",
            format!("lockstep host add {} {first}", spec.key),
        ));
    }
    let left_out = drained
        .into_iter()
        .map(|host| ExcludedHost { host: host.clone(), because: ExclusionReason::Drained });
    let app = app.into_iter().cloned().collect();
    Ok((left_out.collect(), HostRoles { app, ..spec.hosts.clone() }))
}

/// Where the declaration allows it, app hosts that did not answer, or have something to take back first, have no part
/// in the plan: they get no traffic.
pub(super) fn exclude_unreachable(
    placement: &mut Placement<'_>,
    spec: &EnvironmentSpec,
    record: &Record,
) -> Result<Vec<ExcludedHost>, PlanRefusal> {
    let Some(quorum) = spec.deploy.quorum else {
        return Ok(Vec::new());
    };
    let needed = [placement.lb.id.clone(), placement.db.id.clone()];
    let because = |host: &Host| {
        if !record.observed.contains_key(&host.id) {
            return Some(ExclusionReason::Unreachable);
        }
        let must_undo = record.hosts_with_pending_undos.contains(&host.id) && !needed.contains(&host.id);
        must_undo.then_some(ExclusionReason::PendingUndos)
    };
    let (app, excluded): (Vec<_>, Vec<_>) =
        placement.app.iter().copied().partition(|host| because(host).is_none());
    let left_out = excluded
        .into_iter()
        .filter_map(|host| because(host).map(|because| ExcludedHost { host: host.name.clone(), because }));
    let left_out: Vec<ExcludedHost> = left_out.collect();
    if app.len() < usize::from(quorum) {
        let why: Vec<String> =
            left_out.iter().map(|left| format!("{}: {}", left.host, left.because)).collect();
        return Err(PlanRefusal::new(
            format!("available app hosts of {}: {}, and deploy.quorum is {quorum}", spec.key, app.len()),
            why.join(", "),
            "lockstep host list    # on a host that is offline: systemctl start lockstep-agent",
        ));
    }
    placement.app = app;
    Ok(left_out)
}

/// An app host that is declared and has no part in the plan.
pub(super) struct ExcludedHost {
    host: HostName,
    because: ExclusionReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExclusionReason {
    Drained,
    Unreachable,
    PendingUndos,
}

impl fmt::Display for ExclusionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drained => "it was drained",
            Self::Unreachable => "it did not answer",
            Self::PendingUndos => "it has pending undos",
        })
    }
}

impl ExcludedHost {
    /// The host, where nobody wants it to be left out.
    pub(super) fn excluded_name(&self) -> Option<HostName> {
        (self.because != ExclusionReason::Drained).then(|| self.host.clone())
    }

    pub(super) fn omission(&self, key: &EnvironmentKey) -> Omission {
        let Self { host, because } = self;
        let add = format!("lockstep host add {key} {host}");
        Omission { what: host.to_string(), because: format!("{because}; to use it again: {add}") }
    }

    /// What an operator should know before the rest goes on.
    pub(super) fn warning(&self) -> Option<String> {
        match self.because {
            ExclusionReason::Drained => None,
            ExclusionReason::Unreachable | ExclusionReason::PendingUndos => Some(format!(
                "{} is excluded because {}: its containers keep running and get no requests after the switch",
                self.host, self.because
            )),
        }
    }
}
