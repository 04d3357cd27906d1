//! The nginx site in a plan: whether it must change, whether that needs a reload, and which manual changes are kept.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};

use crate::host::Host;
use crate::name::EnvironmentKey;
use crate::plan::action::{Site, SiteTls};
use crate::plan::operation::ChangedSite;
use crate::plan::{Action, Omission};
use crate::planner::{PlanRefusal, StepDraft, Version, seconds, step, undo_by};
use crate::record::Record;
use crate::record::observed::SiteChange;
use crate::spec::{EnvironmentSpec, HTTP_PORT, HTTPS_PORT, Tls};

/// What a change of the site costs the clients of every site of that nginx.
pub(super) const ONE_RELOAD: &str =
    "one reload: clients with idle connections to this nginx may have to reconnect";

/// What a plan has to do about the site.
pub(super) enum SiteDecision<'a> {
    Step(Box<StepDraft<'a>>),
    Nothing(Omission),
}

/// Whether the site may have to lose hosts while the plan is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hosts {
    Fixed,
    MayBeExcluded,
}

/// The site that a plan is for.
pub(super) struct DesiredSite<'a> {
    pub(super) lb: &'a Host,
    pub(super) site: Site,
    pub(super) hosts: Hosts,
    pub(super) changed: ChangedSite,
    /// What nginx does then, in words.
    pub(super) change: String,
    /// The command that overwrites what was changed by hand.
    pub(super) overwriting: String,
}

/// What a deployment of `version` has to do about it.
pub(super) fn of_deployment<'a>(
    lb: &'a Host,
    (site, hosts): (Site, Hosts),
    changed: ChangedSite,
    (version, record): (&Version<'_>, &Record),
) -> Result<SiteDecision<'a>, PlanRefusal> {
    // Another site has its name, or nginx has not read it: then a switch changes nothing, and no undo of it can be seen.
    if let Some(why) = record.observed.get(&lb.id).and_then(|seen| seen.not_served.as_ref()) {
        return Err(PlanRefusal::new(
            format!("nginx on {} does not serve the site of {}", lb.name, record.key),
            why.clone(),
            format!(
                "nginx -T    # on {}: whether another site has that name; and read nginx's error log",
                lb.name
            ),
        ));
    }
    let change = format!("nginx serves {} on port {} ({ONE_RELOAD})", site.server_name, site.listen_port);
    let overwriting =
        format!("lockstep deploy {} --image {} --overwrite-site", record.key, version.release.image);
    decide(DesiredSite { lb, site, hosts, changed, change, overwriting }, record)
}

/// What becomes of the site as it is seen.
pub(super) fn decide<'a>(wanted: DesiredSite<'a>, record: &Record) -> Result<SiteDecision<'a>, PlanRefusal> {
    let DesiredSite { lb, site, hosts, changed, change, overwriting } = wanted;
    let key = &record.key;
    let seen = record.observed.get(&lb.id);
    let installed = seen.and_then(|seen| seen.site.as_ref());
    let by_hand = seen.and_then(|seen| seen.site_changed.as_ref());
    let nothing = |because| Ok(SiteDecision::Nothing(Omission { what: "nginx site".to_string(), because }));
    let (overwrites, change) = match by_hand {
        None if installed == Some(&site.digest()) && hosts == Hosts::MayBeExcluded => {
            (None, "changes nothing, unless a host is excluded: then one reload removes it".to_string())
        }
        None if installed == Some(&site.digest()) => {
            return nothing(
                "the site needs no change; the switch changes a file and needs no reload".to_string(),
            );
        }
        None => (None, change),
        Some(there) if changed == ChangedSite::Overwritten => {
            let words = format!("{change}; overwrites the manual changes there ({there})");
            (Some(there.there.clone()), words)
        }
        Some(there) if there.installed.as_ref() == Some(&site.digest()) => {
            return nothing(format!(
                "the manual changes on {} stay ({there}): lockstep doctor {key}",
                lb.name
            ));
        }
        Some(there) => return Err(changed_by_hand(lb, key, there, &overwriting)),
    };
    let undo = if installed.is_none() && by_hand.is_none() {
        undo_by(Action::RemoveSite, "removes the nginx site of this environment")
    } else {
        undo_by(Action::RestoreSite, "restores the previous nginx site")
    };
    let step = step(lb, Action::InstallSite { site, overwrites }, undo, seconds(30), change);
    Ok(SiteDecision::Step(Box::new(step)))
}

/// What somebody changed by hand is not overwritten unasked.
pub(super) fn changed_by_hand(
    lb: &Host,
    key: &EnvironmentKey,
    there: &SiteChange,
    overwriting: &str,
) -> PlanRefusal {
    PlanRefusal::new(
        format!("the nginx site of {key} on {} was changed by hand", lb.name),
        format!(
            "this operation needs another site there, and manual changes are overwritten only on request ({there})"
        ),
        format!("lockstep doctor {key}    # shows the changes\n{overwriting}    # overwrites them"),
    )
}

/// Where TLS ends at nginx: with which files, and who is sent on to it.
pub(super) fn tls(spec: &EnvironmentSpec) -> Option<Box<SiteTls>> {
    let Tls::Existing { certificate, key } = &spec.traffic.tls else { return None };
    let is_usual = spec.site_address().is_some_and(|address| address.listen_port == HTTPS_PORT);
    Some(Box::new(SiteTls {
        certificate: certificate.clone(),
        key: key.clone(),
        // Browsers that are told no scheme ask there; beside another port than the usual one they ask nowhere.
        redirect_from: is_usual.then_some(HTTP_PORT),
    }))
}
