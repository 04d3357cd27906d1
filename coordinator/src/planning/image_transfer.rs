//! Decides whether an image that only the operator has may be sent, and which app host receives it. The other hosts
//! get it from there, like any image.
//!
//! What must stay true: an image is sent only by the holder of the environment's claim, and never under a name that
//! belongs to the images of another application. Names are per host, and a host runs many applications.

use lockstep_core::host::Host;
use lockstep_core::id::{DeploymentId, Digest};
use lockstep_core::image::{repository, same_repository};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::operation::Refusal;
use lockstep_core::spec::{EnvironmentSpec, ImageSource};

use super::claims::claimable;
use super::{DeployError, Requester, checked, planning_input};
use crate::context::Context;
use crate::record::environments;

/// What an operator sends.
#[derive(Debug, Clone)]
pub struct ImageOffer {
    pub environment: EnvironmentKey,
    pub spec: EnvironmentSpec,
    pub claim: DeploymentId,
    pub image: String,
    pub image_id: Digest,
}

/// The host that takes it: the first app host that is connected.
///
/// # Errors
/// When the claim is not the asker's, the name is another application's, or no app host is connected.
pub async fn receiver(
    context: &Context,
    offer: &ImageOffer,
    requester: &Requester,
) -> Result<Host, DeployError> {
    let store = &*context.store;
    let spec = checked(offer.spec.clone(), &offer.environment)?;
    claimable(store, &offer.environment, Some(&offer.claim), requester, context.clock.now()).await?;
    let declared = environments::declared(store).await?;
    refuse_other_name(&offer.image, spec.get(), &declared)?;
    let app = planning_input::app_hosts(store, spec.get()).await?;
    let connected = app.iter().find(|host| context.agents.session_of(&host.id).is_some());
    let Some(host) = connected.cloned() else {
        return Err(DeployError::Refused(Refusal {
            what: format!("no app host of {} is connected", offer.environment),
            why: format!("{} must be sent to one of them", offer.image),
            next: "lockstep host list, and on those hosts: systemctl status lockstep-agent".to_owned(),
        }));
    };
    Ok(host)
}

/// Who sends an image gives it a name on a host, by which whoever deploys next finds it.
fn refuse_other_name(
    image: &str,
    spec: &EnvironmentSpec,
    declared: &[EnvironmentSpec],
) -> Result<(), Refusal> {
    // By its id it is called nothing.
    if image.parse::<Digest>().is_ok() {
        return Ok(());
    }
    let application = &spec.key.application;
    let own = repository_of(spec);
    if !same_repository(image, &own) {
        return Err(Refusal {
            what: format!("{image} cannot be sent for {}", spec.key),
            why: format!("the images of this environment are named {own}"),
            next: format!(
                "tag it (docker tag {image} {own}:TAG) and deploy {own}:TAG; or set image.repository to {} in deployment.yml",
                repository(image)
            ),
        });
    }
    let is_other = |other: &&EnvironmentSpec| {
        other.key.application != *application && same_repository(&repository_of(other), image)
    };
    match declared.iter().find(is_other) {
        None => Ok(()),
        Some(other) => Err(Refusal {
            what: format!("{image} cannot be sent for {}", spec.key),
            why: format!("the images of {} have the same name", other.key.application),
            next: "give each application its own image.repository in deployment.yml".to_owned(),
        }),
    }
}

/// What an environment's images are called.
fn repository_of(spec: &EnvironmentSpec) -> String {
    match &spec.image {
        ImageSource::Repository(repository) => repository.clone(),
        ImageSource::Build { .. } => spec.key.application.to_string(),
    }
}
