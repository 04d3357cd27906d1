//! Converts wire messages to requests.

use lockstep_core::access::machine::{BeyondToken, Planning};
use lockstep_core::name::{EnvironmentKey, OperatorName};
use lockstep_core::plan::operation::{AnyBranch, ChangedSite, Refusal};
use lockstep_proto::Invalid;
use lockstep_proto::convert::required;
use lockstep_proto::wire;
use tonic::Status;

use super::failure::{reference_status, refused};
use super::{Caller, ControlApi};
use crate::api::forbidden;
use crate::identity::operators;
use crate::planning::{DeployRequest, PlanRequest, RequestedOperation, Requester};
use crate::record::history;
use crate::record::history::Reference;
use lockstep_core::id::DeploymentId;
use lockstep_core::image::check_image;
use lockstep_core::shortened::shortened;
use lockstep_core::view::printable::is_one_line;

/// The name of an operator's machine.
const HOSTNAME_CHARACTERS_MAX: usize = 255;

/// The name of an image, a commit or a branch.
const NAME_CHARACTERS_MAX: usize = 1024;

/// The environment of a request, if the caller has a say over it.
pub(super) fn environment(caller: &Caller, text: &str) -> Result<EnvironmentKey, Status> {
    let environment = text.parse().map_err(|error| Invalid::because("environment", error))?;
    caller.check_environment(&environment)?;
    Ok(environment)
}

/// Nothing for an empty text.
pub(super) fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// A text that is recorded and shown.
pub(super) fn one_line(field: &'static str, text: String, characters_max: usize) -> Result<String, Invalid> {
    if is_one_line(&text, characters_max) {
        return Ok(text);
    }
    let what =
        format!("it is not one line of at most {characters_max} characters without control characters");
    Err(Invalid::because(field, what))
}

/// The text of an option that is recorded and shown; `None` for an empty one. `next` is the command with a text that is
/// right.
pub(super) fn option_text(
    (option, text): (&'static str, String),
    characters_max: usize,
    next: String,
) -> Result<Option<String>, Status> {
    if text.is_empty() || is_one_line(&text, characters_max) {
        return Ok(non_empty(text));
    }
    let why = format!("it is not one line of at most {characters_max} characters without control characters");
    Err(refused(&Refusal { what: format!("the text after {option} cannot be recorded"), why, next }))
}

pub(super) fn requester(caller: &Caller, client: Option<wire::Client>) -> Result<Requester, Status> {
    let wire::Client { hostname, pid } = client.unwrap_or_default();
    let hostname = one_line("client.hostname", hostname, HOSTNAME_CHARACTERS_MAX)?;
    Ok(Requester { operator: caller.operator()?.clone(), hostname, pid, authority: caller.authority() })
}

pub(super) fn plan_request(caller: &Caller, request: wire::PlanRequest) -> Result<PlanRequest, Status> {
    let wire::PlanRequest { environment: text, what } = request;
    let environment = environment(caller, &text)?;
    let host = |name: String| name.parse().map_err(|error| Invalid::because("host", error));
    let what = match what.ok_or_else(|| Invalid::missing("what"))? {
        wire::plan_request::What::Rollback(wire::RollbackAsk { to, overwrite_site }) => {
            let changed_site = if overwrite_site { ChangedSite::Overwritten } else { ChangedSite::Refused };
            RequestedOperation::Rollback { to: non_empty(to), changed_site }
        }
        wire::plan_request::What::AddHost(name) => RequestedOperation::AddHost(host(name)?),
        wire::plan_request::What::DrainHost(name) => RequestedOperation::DrainHost(host(name)?),
        wire::plan_request::What::RemoveHost(name) => RequestedOperation::RemoveHost(host(name)?),
        wire::plan_request::What::Decommission(true) => RequestedOperation::Decommission,
        wire::plan_request::What::Decommission(false) => return Err(Invalid::missing("what").into()),
        wire::plan_request::What::Deploy(deploy) => {
            let wire::DeployAsk {
                spec,
                image,
                commit,
                branch,
                allow_any_branch,
                overwrite_site,
                image_id,
                offered,
            } = deploy;
            let name_after = |option: &'static str, text: String, example: &str| {
                let next = format!("lockstep deploy {environment} --image IMAGE {option} {example}");
                option_text((option, text), NAME_CHARACTERS_MAX, next)
            };
            let parse_id =
                |text: String| text.parse().map_err(|error| Invalid::because("deploy.image_id", error));
            RequestedOperation::Deploy(Box::new(DeployRequest {
                spec: required(spec.as_ref(), "deploy.spec")?,
                image: image_name(&environment, image)?,
                commit: name_after("--commit", commit, "COMMIT")?,
                branch: name_after("--branch", branch, "main")?,
                any_branch: if allow_any_branch { AnyBranch::Allowed } else { AnyBranch::Refused },
                changed_site: if overwrite_site { ChangedSite::Overwritten } else { ChangedSite::Refused },
                image_id: non_empty(image_id).map(parse_id).transpose()?,
                offered: offered.map(|offered| required(Some(&offered), "deploy.offered")).transpose()?,
            }))
        }
    };
    Ok(PlanRequest { environment, what })
}

/// `other` is the same command with another name.
pub(super) fn refuse_reserved(name: &OperatorName, other: String) -> Result<(), Status> {
    operators::reserved(name).map_or(Ok(()), |why| {
        let what = format!("nobody can be named {name}");
        Err(refused(&Refusal { what, why: why.to_owned(), next: other }))
    })
}

/// What is no name of an image is asked of no host: it becomes a part of a path of Docker's API there.
fn image_name(environment: &EnvironmentKey, image: String) -> Result<String, Status> {
    let image = non_empty(image).ok_or_else(|| Invalid::missing("deploy.image"))?;
    check_image(&image).map_err(|invalid| {
        refused(&Refusal {
            what: format!("the image of {environment} has no valid name"),
            why: shortened(invalid.to_string(), NAME_CHARACTERS_MAX),
            next: format!("lockstep deploy {environment} --image REPOSITORY:TAG"),
        })
    })?;
    Ok(image)
}

/// Refuses what the token of a machine does not allow.
pub(super) fn within_token(caller: &Caller, ask: &PlanRequest, planning: Planning) -> Result<(), Status> {
    let Some(machine) = caller.machine() else { return Ok(()) };
    let beyond = machine.refuses_operation(ask.what.kind(), planning).or_else(|| match &ask.what {
        RequestedOperation::Deploy(deploy) => {
            machine.refuses_image(&deploy.image).or_else(|| machine.refuses_branch(deploy.branch.as_deref()))
        }
        RequestedOperation::Rollback { .. }
        | RequestedOperation::AddHost(_)
        | RequestedOperation::DrainHost(_)
        | RequestedOperation::RemoveHost(_)
        | RequestedOperation::Decommission => None,
    });
    refuse_beyond_token(caller, &ask.environment, beyond)
}

/// The refusal of what the token of a machine does not allow.
pub(super) fn refuse_beyond_token(
    caller: &Caller,
    environment: &EnvironmentKey,
    beyond: Option<BeyondToken>,
) -> Result<(), Status> {
    let Some(beyond) = beyond else { return Ok(()) };
    let name = caller.operator()?;
    Err(forbidden(&Refusal {
        what: format!("{name} cannot do this in {environment}"),
        next: beyond.next(name, caller.environments()?),
        why: beyond.why,
    }))
}

/// A deployment that the caller may see, and its environment.
pub(super) async fn deployment(
    api: &ControlApi,
    caller: &Caller,
    reference: Option<wire::DeploymentRef>,
) -> Result<(DeploymentId, EnvironmentKey), Status> {
    let wire::DeploymentRef { deployment: text, environment: of } =
        reference.ok_or_else(|| Invalid::missing("deployment"))?;
    let named = match non_empty(of) {
        Some(of) => Some(environment(caller, &of)?),
        None => None,
    };
    let store = &*api.context.store;
    let reference =
        Reference { text: text.clone(), environment: named.clone(), visible: caller.environments()?.clone() };
    let id = history::resolve(store, &reference).await.map_err(|unresolved| reference_status(&unresolved))?;
    let summary = history::summary(store, &id).await.map_err(|error| super::store_status(&error))?;
    let environment = match (summary, named) {
        (Some(summary), _) => summary.key,
        // A claim for a build has no summary.
        (None, Some(named)) => named,
        (None, None) => return Err(Status::not_found(format!("there is no deployment {text}"))),
    };
    // Whose it is, is not said.
    if caller.check_environment(&environment).is_err() {
        let operator = caller.operator()?;
        let denied = format!("{operator} has no access to {id}: it belongs to another environment");
        return Err(Status::permission_denied(denied));
    }
    Ok((id, environment))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::access::machine::{MachineLimits, Verb};
    use lockstep_core::access::{Identity, OperatorRights, OperatorRole};
    use lockstep_core::spec::EnvironmentSpec;
    use lockstep_core::time::Timestamp;
    use serde_json::json;

    /// An operator of `notes/production`, or a machine.
    fn caller(machine: Option<MachineLimits>) -> Caller {
        let environments = "notes/production".parse().unwrap();
        let rights = OperatorRights { role: OperatorRole::Deploy, environments, machine };
        Caller::of(Identity::Operator("anna".parse().unwrap()), rights)
    }

    fn deploy(image: &str, commit: &str, branch: &str) -> wire::PlanRequest {
        let health = json!({ "path": "/health", "timeout": 1, "interval": 100, "consecutive": 1 });
        let web = json!({
            "role": "web", "command": [], "port": 8080, "health": health, "volumes": [], "memory_bytes": null,
            "cpu_milli": null, "user": null, "stop_signal": null, "stop_grace": 1, "standby": "run",
        });
        let spec = json!({
            "key": "notes/production", "description": null, "url": "http://notes.example", "branch": null,
            "mode": "staging", "image": { "repository": "notes" }, "processes": { "web": web }, "database": null,
            "traffic": { "body_limit": "10m", "read_timeout": 1 }, "networks": [],
            "deploy": { "lock_timeout": 1, "drain": 1, "bake": 1, "log_directory": null, "state_file": null },
            "env": {}, "required": [], "public": [], "hosts": { "app": [], "lb": [], "db": [] },
        });
        let spec: EnvironmentSpec = serde_json::from_value(spec).unwrap();
        let ask = wire::DeployAsk {
            spec: Some(wire::Document::of_content(&spec)),
            image: image.to_owned(),
            commit: commit.to_owned(),
            branch: branch.to_owned(),
            ..wire::DeployAsk::default()
        };
        let what = Some(wire::plan_request::What::Deploy(ask));
        wire::PlanRequest { environment: "notes/production".to_owned(), what }
    }

    #[test]
    fn what_is_recorded_and_shown_is_one_line() {
        let anna = caller(None);
        assert!(plan_request(&anna, deploy("notes:1", "c0ffee", "main")).is_ok());
        let client = |hostname: &str| Some(wire::Client { hostname: hostname.to_owned(), pid: 7 });
        assert!(requester(&anna, client("ws-1")).is_ok());
        let long = "a".repeat(NAME_CHARACTERS_MAX + 1);
        for text in ["two\nlines", "\u{1b}[2J", "\u{202e}evil", &long] {
            for request in [deploy("notes:1", text, ""), deploy("notes:1", "", text)] {
                let refused = plan_request(&anna, request).unwrap_err();
                assert!(refused.message().contains("it is not one line of at most 1024"), "{refused}");
            }
            let refused = requester(&anna, client(text)).unwrap_err();
            assert!(refused.message().contains("it is not one line of at most 255"), "{refused}");
        }
    }

    #[test]
    fn what_is_no_name_of_an_image_is_asked_of_no_host() {
        let anna = caller(None);
        let long = "a".repeat(NAME_CHARACTERS_MAX + 1);
        for image in ["../../containers/json#:1", "../events#:1", "two\nlines", "\u{1b}[2J", &long] {
            let refused = plan_request(&anna, deploy(image, "", "")).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");
            assert!(refused.message().contains("no valid name"), "{refused}");
            assert!(refused.message().len() < 2 * NAME_CHARACTERS_MAX, "{refused}");
            assert!(!refused.message().contains('\u{1b}'), "{refused}");
        }
    }

    #[test]
    fn an_environment_of_others_is_refused() {
        let request =
            wire::PlanRequest { environment: "shop/production".to_owned(), ..deploy("shop:1", "", "") };
        let refused = plan_request(&caller(None), request).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused}");
    }

    #[test]
    fn a_machine_does_what_its_token_allows() {
        let machine = caller(Some(MachineLimits {
            verbs: [Verb::Deploy].into(),
            repository: Some("notes".to_owned()),
            branch: Some("main".to_owned()),
            expires: Timestamp(1),
        }));
        let may = |request| {
            let ask = plan_request(&machine, request).unwrap();
            within_token(&machine, &ask, Planning::Started).is_ok()
        };
        assert!(may(deploy("notes:1", "", "main")));
        assert!(!may(deploy("evil:1", "", "main")), "another image");
        assert!(!may(deploy("notes:1", "", "feature")), "another branch");
        let rollback = wire::plan_request::What::Rollback(wire::RollbackAsk::default());
        assert!(
            !may(wire::PlanRequest { what: Some(rollback), ..deploy("notes:1", "", "main") }),
            "a rollback"
        );
    }
}
