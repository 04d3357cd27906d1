//! The image that a hint lacks: whoever wrote it does not know what is live, or what was typed.

use lockstep_core::spec::ImageSource;
use lockstep_core::view::environment::EnvironmentStatus;

use crate::command::reply::read;
use crate::context::{Context, environment_ref};
use crate::deployment_yml::DeclaredEnvironment;
use crate::failure::{Failure, Kind};

/// The failure with an image in its hint: the one that was typed, else what is live, else one of the declared repository.
/// A declaration with `build:` needs none.
pub async fn complete_hint(
    context: &Context,
    failure: Failure,
    env: Option<&str>,
    typed: Option<&str>,
) -> Failure {
    if !failure.lacks_image() {
        return failure;
    }
    if let Some(image) = typed {
        return failure.with_image(image);
    }
    let declared = env.and_then(|env| context.declared(env).ok());
    if declared.as_ref().is_some_and(is_built) {
        return failure.with_built_image();
    }
    // A coordinator that did not answer is not asked again.
    let live = match env.filter(|_| failure.kind != Kind::Unreachable) {
        Some(env) => live_image(context, env).await,
        None => None,
    };
    match live.or_else(|| declared.as_ref().and_then(any_image)) {
        Some(image) => failure.with_image(&image),
        None => failure,
    }
}

fn is_built(declared: &DeclaredEnvironment) -> bool {
    matches!(declared.spec.image, ImageSource::Build { .. })
}

/// An image of the declared repository, whose tag the operator knows.
pub fn any_image(declared: &DeclaredEnvironment) -> Option<String> {
    match &declared.spec.image {
        ImageSource::Repository(repository) => Some(format!("{repository}:TAG")),
        ImageSource::Build { .. } => None,
    }
}

async fn live_image(context: &Context, env: &str) -> Option<String> {
    let request = environment_ref(&context.key(env).ok()?, 0);
    let reply = context.control().await.ok()?.status(request).await.ok()?.into_inner();
    let status: EnvironmentStatus = read(reply.environments.first()).ok()?;
    status.live.map(|live| live.release.image)
}
