//! The release of a deployment: the image that its hosts have under the name, or the one that is offered to them.

use lockstep_core::id::HostId;
use lockstep_core::image::RegistryName;
use lockstep_core::plan::operation::Refusal;
use lockstep_core::planner;
use lockstep_core::record::Record;
use lockstep_core::record::observed::ImageObservation;
use lockstep_core::release::Release;
use lockstep_core::spec::EnvironmentSpec;

use super::{DeployError, DeployRequest};

/// What hosts call it among their tools.
const DOCKER: &str = "docker";

/// The release that `image` is, as an app host has it, or as it is offered. Where the planner will refuse because it
/// is not said which host that is, the first one will do.
pub(super) fn find_release(
    deploy: &DeployRequest,
    spec: &EnvironmentSpec,
    record: &Record,
) -> Result<Release, DeployError> {
    // Where a registry was asked, an older image of the same name is not what was asked for.
    let named = record.observed.values().find_map(|seen| seen.manifest.as_ref());
    let seen = record.observed.iter().filter_map(|(host, seen)| Some((host, seen.image.as_ref()?)));
    let mut seen = seen.filter(|(_, image)| named.is_none() || image.manifest.as_ref() == named);
    if let Some((host, found)) = seen.next() {
        if named.is_none() {
            refuse_other_image(deploy, found, &name_of(host, record).unwrap_or_default())?;
        }
        return Ok(release_of(deploy, found));
    }
    let asked: Vec<String> = record.observed.keys().filter_map(|host| name_of(host, record)).collect();
    if asked.is_empty() {
        // No host was asked: the planner says why, in its words.
        return Err(no_host(spec, record).into());
    }
    // Where no engine answers, it is not the image that lacks.
    let can_have_it = record.observed.values().any(|seen| seen.tools.contains_key(DOCKER));
    match &deploy.offered {
        Some(offered) if can_have_it => Ok(release_of(deploy, offered)),
        None if can_have_it => Err(DeployError::ImageAbsent(image_not_found(deploy, &asked, record))),
        Some(_) | None => Err(image_not_found(deploy, &asked, record).into()),
    }
}

fn release_of(deploy: &DeployRequest, found: &ImageObservation) -> Release {
    let ImageObservation { id, manifest, commit, migrations, size_bytes: _ } = found;
    Release {
        image: deploy.image.clone(),
        image_id: id.clone(),
        manifest: manifest.clone(),
        commit: commit.clone().or_else(|| deploy.commit.clone()),
        migrations: migrations.clone(),
    }
}

fn name_of(id: &HostId, record: &Record) -> Option<String> {
    record.hosts.iter().find(|host| host.id == *id).map(|host| host.name.to_string())
}

/// Who has just built an image does not mean an older one of the same name.
fn refuse_other_image(deploy: &DeployRequest, found: &ImageObservation, host: &str) -> Result<(), Refusal> {
    match &deploy.image_id {
        Some(meant) if *meant != found.id => Err(Refusal {
            what: format!("{} is a different image on this machine and on {host}", deploy.image),
            why: format!("it is {} on {host} and {} on this machine", found.id.short(), meant.short()),
            next: format!(
                "use another tag, or deploy it by its id: --image {meant} (this machine) or --image {} ({host})",
                found.id
            ),
        }),
        Some(_) | None => Ok(()),
    }
}

fn image_not_found(deploy: &DeployRequest, asked: &[String], record: &Record) -> Refusal {
    let problems: Vec<&str> =
        record.observed.values().flat_map(|seen| seen.problems.iter()).map(String::as_str).collect();
    Refusal {
        what: format!("the image {} is not on {}", deploy.image, asked.join(", ")),
        why: match problems.as_slice() {
            [] => "the Docker engine there has no image of that name".to_owned(),
            problems => problems.join("; "),
        },
        next: match RegistryName::named_by(&deploy.image) {
            Some(registry) => format!(
                "lockstep registry login {registry} --username NAME < token    # then: lockstep registry check {registry}"
            ),
            None => format!(
                "docker image ls    # build or load {} on this machine or there, then deploy again",
                deploy.image
            ),
        },
    }
}

fn no_host(spec: &EnvironmentSpec, record: &Record) -> Refusal {
    let known: Vec<&str> = record.hosts.iter().map(|host| host.name.as_str()).collect();
    match (known.as_slice(), spec.hosts.app.first()) {
        ([], _) => Refusal {
            what: "no host has joined".to_owned(),
            why: "a deployment needs at least one host with an agent".to_owned(),
            next: planner::NO_HOST_NEXT.to_owned(),
        },
        (known, Some(_)) => Refusal {
            what: format!("{} names a host that has not joined", spec.key),
            why: format!("hosts that have joined: {}", known.join(", ")),
            next: "lockstep host list".to_owned(),
        },
        (known, None) => Refusal {
            what: "deployment.yml names no hosts".to_owned(),
            why: format!("{} hosts have joined, and Lockstep does not choose among them", known.len()),
            next: format!(
                "add to {} in deployment.yml: hosts: {{ app: [{}], lb: [{}] }}",
                spec.key.environment, known[0], known[0]
            ),
        },
    }
}
