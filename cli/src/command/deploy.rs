//! Deployments: planned, started, followed, cancelled.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use lockstep_core::plan::{OnFailure, Plan, Undo};
use lockstep_core::spec::ImageSource;
use lockstep_core::time::Millis;
use lockstep_proto::wire;
use lockstep_proto::wire::control_client::ControlClient;
use lockstep_proto::wire::plan_request::What;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::build::Build;
use super::environments::secrets_of;
use super::people::said;
use super::read;
use super::watch::follow;
use crate::args::{DeployArgs, RollbackArgs};
use crate::context::{Context, client};
use crate::deployment_yml::Declared;
use crate::failure::{Failure, Kind, Result};
use crate::output::{Tone, table};

/// How much of a commit is an image's tag.
const SHORT: usize = 7;

const LOCK_RETRY_EVERY: Duration = Duration::from_secs(1);

pub async fn plan(context: &Context, args: &DeployArgs) -> Result<()> {
    let declared = context.declared(&args.env)?;
    secrets_of(&declared)?;
    let image = image(context, args, &declared)?;
    if let Wanted::Built(build) = &image
        && !build.is_there().await
    {
        context.output.json(&serde_json::json!({ "image": build.image, "to_be_built": true }))?;
        context.output.line(&format!("image {}: to be built from the commit at HEAD", build.image))?;
        return context
            .output
            .line("lockstep deploy builds it first: migrations and steps are known when it is there");
    }
    let request = request(context, args, &declared, image.name());
    let reply = context.control().await?.plan(request).await?.into_inner();
    tell(context, &read(reply.plan.as_ref())?)
}

pub async fn deploy(context: &Context, args: &DeployArgs) -> Result<()> {
    let declared = context.declared(&args.env)?;
    let secrets = secrets_of(&declared)?;
    let image = image(context, args, &declared)?;
    let mut control = context.control().await?;
    if let Some(values) = secrets {
        import(context, &mut control, &declared, values.into_iter().collect()).await?;
    }
    let hash = args.plan.as_ref().map(ToString::to_string).unwrap_or_default();
    let claim = match &image {
        Wanted::Built(build) if !build.is_there().await => {
            built(context, &mut control, args, &declared, build).await?
        }
        Wanted::Built(_) | Wanted::Named(_) => String::new(),
    };
    let plan = Some(request(context, args, &declared, image.name()));
    let start = wire::StartRequest { plan, hash, claim: claim.clone(), client: Some(client()) };
    let started = when_free(context, args, || {
        let (mut control, start) = (control.clone(), start.clone());
        async move { control.start(start).await }
    })
    .await;
    let started = match started {
        Ok(started) => started,
        Err(failure) => return Err(give_back(&mut control, &declared, claim, failure).await),
    };
    context.output.line(&format!("{} {}", declared.spec.key, started.deployment))?;
    if args.detach {
        context.output.line(&format!("it goes on by itself: lockstep watch {}", started.deployment))?;
        return context.output.json(&serde_json::json!({ "deployment": started.deployment }));
    }
    follow(context, wire::DeploymentRef { deployment: started.deployment, environment: String::new() }).await
}

pub async fn rollback(context: &Context, args: &RollbackArgs) -> Result<()> {
    let environment = context.key(&args.env)?.to_string();
    let to = args.to.clone().unwrap_or_default();
    let request = wire::PlanRequest { environment, what: Some(What::Rollback(wire::RollbackAsk { to })) };
    let mut control = context.control().await?;
    if args.dry_run {
        let reply = control.plan(request).await?.into_inner();
        return tell(context, &read(reply.plan.as_ref())?);
    }
    let start = wire::StartRequest {
        plan: Some(request),
        hash: String::new(),
        claim: String::new(),
        client: Some(client()),
    };
    let started = control.start(start).await.map_err(|status| {
        let failure = Failure::from(status);
        if failure.kind == Kind::Locked {
            return failure.next(format!(
                "lockstep cancel {}: an open deployment is unwound, which gives the traffic back",
                args.env
            ));
        }
        failure
    })?;
    let started = started.into_inner();
    let plan: Plan = read(started.plan.as_ref())?;
    for warning in &plan.warnings {
        context.output.line(warning)?;
    }
    follow(context, wire::DeploymentRef { deployment: started.deployment, environment: String::new() }).await
}

pub async fn cancel(context: &Context, env: &str) -> Result<()> {
    let environment = context.key(env)?.to_string();
    let deployment = wire::DeploymentRef { deployment: "@open".to_owned(), environment };
    let request = wire::CancelRequest { deployment: Some(deployment) };
    let done = context.control().await?.cancel(request).await?.into_inner();
    said(context, &done)
}

pub async fn resolve(context: &Context, deployment: String) -> Result<()> {
    let deployment = super::status::reference(context, deployment, None)?;
    let request = wire::ResolveRequest { deployment: Some(deployment), how: "retry".to_owned() };
    let done = context.control().await?.resolve(request).await?.into_inner();
    said(context, &done)
}

/// The .env file becomes the newest version of the secrets, where it says something else than that.
async fn import(
    context: &Context,
    control: &mut ControlClient<Channel>,
    declared: &Declared,
    values: HashMap<String, String>,
) -> Result<()> {
    let environment = declared.spec.key.to_string();
    let ask = wire::DiffSecretsRequest { environment: environment.clone(), values: values.clone() };
    let differs = control.diff_secrets(ask).await?.into_inner();
    let changes: Vec<String> = [("+", &differs.added), ("~", &differs.changed), ("-", &differs.removed)]
        .into_iter()
        .flat_map(|(sign, names)| names.iter().map(move |name| format!("{sign} {name}")))
        .collect();
    if changes.is_empty() {
        return Ok(());
    }
    let ask = wire::ImportSecretsRequest { environment, values, replace: true };
    let reply = control.import_secrets(ask).await?.into_inner();
    context.output.line(&format!(
        "secrets version {} from {}: {}",
        reply.version,
        declared.env_file.display(),
        changes.join(", ")
    ))
}

/// Claims the environment and builds; gives the claim.
async fn built(
    context: &Context,
    control: &mut ControlClient<Channel>,
    args: &DeployArgs,
    declared: &Declared,
    build: &Build,
) -> Result<String> {
    let environment = declared.spec.key.to_string();
    let spec = Some(wire::Document::of(&declared.spec));
    let ask = wire::ClaimRequest { environment: environment.clone(), spec, client: Some(client()) };
    let claim = when_free(context, args, || {
        let (mut control, ask) = (control.clone(), ask.clone());
        async move { control.claim(ask).await }
    });
    let claim = claim.await?.deployment;
    build.under(context, control, wire::DeploymentRef { deployment: claim.clone(), environment }).await?;
    Ok(claim)
}

/// A claim that became no deployment is given back. What the coordinator did not answer may have started.
async fn give_back(
    control: &mut ControlClient<Channel>,
    declared: &Declared,
    claim: String,
    failure: Failure,
) -> Failure {
    if claim.is_empty() || failure.kind == Kind::Unreachable {
        return failure;
    }
    let claim = wire::DeploymentRef { deployment: claim, environment: declared.spec.key.to_string() };
    match control.unclaim(claim).await {
        Ok(_) => failure,
        Err(status) => failure.next(format!("lockstep cancel {}: {}", declared.spec.key, status.message())),
    }
}

/// Asks until the environment is free, as long as `--wait-lock` says.
async fn when_free<T, Asked>(context: &Context, args: &DeployArgs, ask: impl Fn() -> Asked) -> Result<T>
where
    Asked: Future<Output = std::result::Result<Response<T>, Status>>,
{
    let wait = args.wait_lock.as_deref().map(Millis::parse).transpose();
    let wait = wait.map_err(|error| Failure::new(Kind::Usage, error.to_string()))?;
    let until = wait.map(|wait| Instant::now() + Duration::from_millis(wait.0));
    let mut told = None;
    loop {
        let failure = match ask().await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => Failure::from(status),
        };
        let may_wait = until.is_some_and(|until| Instant::now() < until);
        if failure.kind != Kind::Locked || !may_wait {
            return Err(failure);
        }
        if told.as_ref() != Some(&failure.what) {
            context.output.remark(&format!("waiting: {}", failure.what));
            told = Some(failure.what);
        }
        tokio::time::sleep(LOCK_RETRY_EVERY).await;
    }
}

fn request(context: &Context, args: &DeployArgs, declared: &Declared, image: &str) -> wire::PlanRequest {
    let deploy = wire::DeployAsk {
        spec: Some(wire::Document::of(&declared.spec)),
        image: image.to_owned(),
        commit: args.commit.clone().unwrap_or_default(),
        branch: git(context, &["rev-parse", "--abbrev-ref", "HEAD"]).unwrap_or_default(),
        allow_any_branch: args.allow_branch,
    };
    wire::PlanRequest { environment: declared.spec.key.to_string(), what: Some(What::Deploy(deploy)) }
}

/// The image that is meant.
enum Wanted {
    Named(String),
    Built(Build),
}

impl Wanted {
    fn name(&self) -> &str {
        match self {
            Self::Named(image) => image,
            Self::Built(build) => &build.image,
        }
    }
}

/// As typed, else that of the commit at HEAD.
fn image(context: &Context, args: &DeployArgs, declared: &Declared) -> Result<Wanted> {
    if let Some(image) = &args.image {
        return Ok(Wanted::Named(image.clone()));
    }
    let repository = match &declared.spec.image {
        ImageSource::Repository(repository) => repository.clone(),
        ImageSource::Build { .. } => declared.spec.key.application.to_string(),
    };
    let commit =
        git(context, &["rev-parse", "HEAD"]).filter(|commit| commit.len() >= SHORT).ok_or_else(|| {
            Failure::new(Kind::Refused, "it is not said which image to deploy")
                .why("this is no git checkout, so that there is no commit to take the tag from")
                .next(format!("add --image {repository}:TAG"))
        })?;
    let image = format!("{repository}:{}", &commit[..SHORT]);
    if git(context, &["status", "--porcelain"]).is_some_and(|changes| !changes.is_empty()) {
        return Err(Failure::new(Kind::Refused, "the checkout has changes that are not committed")
            .why(format!("{image} would not have them"))
            .next("commit them, or name the image with --image"));
    }
    context.output.line(&format!("image {image}, by the commit at HEAD"))?;
    Ok(match &declared.spec.image {
        ImageSource::Repository(_) => Wanted::Named(image),
        ImageSource::Build { context, dockerfile } => {
            Wanted::Built(Build { image, commit, context: context.clone(), dockerfile: dockerfile.clone() })
        }
    })
}

/// What git says of the current directory; nothing where there is no git or no checkout.
fn git(context: &Context, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).current_dir(context.directory()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The plan as an operator reads it before it runs.
fn tell(context: &Context, plan: &Plan) -> Result<()> {
    let output = context.output;
    output.json(plan)?;
    output.line(&format!("{}  {}", output.toned(Tone::Strong, &plan.operation.to_string()), plan.key))?;
    output.line(&format!("plan {}", plan.hash))?;
    let mut rows = Vec::new();
    for (number, wave) in plan.waves.iter().enumerate() {
        for step in &wave.steps {
            let usual = step.usual.map(|usual| format!("~{usual}")).unwrap_or_default();
            rows.push(vec![
                format!("  {}", number + 1),
                step.id.to_string(),
                step.action.name().to_owned(),
                step.host_name.to_string(),
                usual,
                step.change.clone(),
            ]);
        }
    }
    table(&rows).iter().try_for_each(|row| output.line(row))?;
    output.line("on failure, newest first:")?;
    for step in
        plan.steps().filter(|step| step.on_failure == OnFailure::Unwind).collect::<Vec<_>>().iter().rev()
    {
        if let Undo::By { change, .. } = &step.undo {
            output.line(&format!("  {}  {change}", step.id))?;
        }
    }
    for omission in &plan.omitted {
        output.line(&format!("no {}: {}", omission.what, omission.because))?;
    }
    plan.warnings
        .iter()
        .try_for_each(|warning| output.line(&format!("{} {warning}", output.toned(Tone::Bad, "note:"))))
}
