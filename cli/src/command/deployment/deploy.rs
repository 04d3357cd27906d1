//! Starting and cancelling deployments: deploy, roll back, add and remove hosts.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use lockstep_core::plan::Plan;
use lockstep_core::plan::PlanHash;
use lockstep_core::record::claim::ClaimKind;
use lockstep_core::spec::ImageSource;
use lockstep_core::time::{Millis, Timestamp};
use lockstep_proto::wire;
use lockstep_proto::wire::control_client::ControlClient;
use lockstep_proto::wire::plan_request::What;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::branch::deployed_branch;
use super::build::{self, BuildSource, Claim};
use super::git::git;
use super::local_image::LocalImage;
use super::plan::show_plan;
use super::reference::{Typed, is_deployment, reference};
use super::watch::follow;
use crate::args::{DeployArgs, HostChangeArgs, RollbackArgs};
use crate::command::environment::secrets::secrets_of;
use crate::command::reply::{read, show_done};
use crate::context::{Context, client};
use crate::deployment_yml::DeclaredEnvironment;
use crate::failure::{Failure, Kind, Result};
use crate::output::ago;

const LOCK_RETRY_EVERY: Duration = Duration::from_secs(1);

pub async fn plan(context: &Context, args: &DeployArgs) -> Result<()> {
    let declared = context.declared(&args.env)?;
    let secrets = secrets_of(&declared)?;
    let image = match choose_image(context, args, &declared, "plan").await? {
        Image::Named(image) => image,
        Image::ToBuild(source) => return source.show_command(context, &declared.spec.key),
    };
    let image = ChosenImage::find(image).await;
    let mut control = context.control().await?;
    let mut planned = control.plan(request(context, args, &declared, &image)).await;
    if let (Some(here), Err(status)) = (&image.here, &planned)
        && status.code() == Code::NotFound
    {
        let path = declared.spec.database.as_ref().and_then(|database| database.migrations.as_deref());
        let offered = Some(wire::Document::of_content(&here.describe(path).await?));
        planned = control.plan(request(context, args, &declared, &ChosenImage { offered, ..image })).await;
    }
    // An operator who may only read may plan, but may not compare secrets.
    let values = secrets.into_iter().flatten().collect();
    let changes = match difference(&mut control, &declared, values).await {
        Ok(difference) => {
            refuse_loss(&declared, &args.env, &difference)?;
            changes(&difference)
        }
        Err(_) => Vec::new(),
    };
    let file = declared.env_file.display();
    match planned {
        Ok(reply) => {
            if changes.is_empty() {
                return show_plan(context, &reply.into_inner(), Some(args), None);
            }
            context.output.line(&format!(
                "note: {file} is not imported yet ({}): the plan is another one then",
                changes.join(", ")
            ))?;
            let import = format!(
                "lockstep secret import {0}    # then, for the plan: {1}",
                args.env,
                args.command_line("plan")
            );
            show_plan(context, &reply.into_inner(), Some(args), Some(&import))
        }
        Err(status) => {
            let failure = Failure::from(status);
            let import = format!(
                "lockstep secret import {}    # {file} is not imported yet ({}), and a plan does not import it",
                args.env,
                changes.join(", ")
            );
            Err(match failure.kind {
                Kind::Refused if changes.is_empty() => failure,
                // What is lacking may be in the file.
                Kind::Refused if failure.what.contains(" lacks ") => failure.next(import),
                Kind::Refused => failure.or(import),
                Kind::Failed
                | Kind::Usage
                | Kind::Locked
                | Kind::Unreachable
                | Kind::Stuck
                | Kind::Unread
                | Kind::Interrupted => failure,
            })
        }
    }
}

pub async fn deploy(context: &Context, args: &DeployArgs) -> Result<()> {
    start_and_follow(context, args).await.map_err(|failure| or_wait(failure, args))
}

/// A lock that ends soon can be waited for.
fn or_wait(failure: Failure, args: &DeployArgs) -> Failure {
    match &failure.lock {
        Some(ClaimKind::Running { .. } | ClaimKind::Building { .. }) => {
            let waiting = DeployArgs { wait_lock: Some("10m".to_owned()), ..args.clone() };
            failure.or(format!("{}    # waits for the lock", waiting.command_line("deploy")))
        }
        Some(ClaimKind::Stuck { .. } | ClaimKind::Freeze { .. }) | None => failure,
    }
}

async fn start_and_follow(context: &Context, args: &DeployArgs) -> Result<()> {
    let declared = context.declared(&args.env)?;
    let secrets = secrets_of(&declared)?;
    let image = choose_image(context, args, &declared, "deploy").await?;
    let mut control = context.control().await?;
    if let (Some(values), Image::ToBuild(_)) = (&secrets, &image) {
        // Before a build that may take minutes.
        let values = values.clone().into_iter().collect();
        refuse_loss(&declared, &args.env, &difference(&mut control, &declared, values).await?)?;
    }
    let deploying = DeployCall { context, args, declared: &declared, secrets, control };
    let started = match image {
        Image::Named(image) => deploying.start(&ChosenImage::find(image).await, String::new()).await?,
        Image::ToBuild(source) => deploying.build_and_start(&source).await?,
    };
    context.output.line(&format!("{} {}", declared.spec.key, started.deployment))?;
    if args.detach {
        context.output.next(&format!("lockstep watch {}", started.deployment))?;
        return context.output.json(&serde_json::json!({ "deployment": started.deployment }));
    }
    follow(context, wire::DeploymentRef { deployment: started.deployment, environment: String::new() }).await
}

/// A deployment that this command is about to start.
struct DeployCall<'a> {
    context: &'a Context,
    args: &'a DeployArgs,
    declared: &'a DeclaredEnvironment,
    secrets: Option<BTreeMap<String, String>>,
    control: ControlClient<Channel>,
}

impl DeployCall<'_> {
    /// Starts the deployment. If no app host has the image and this machine has it, the image is sent first: under
    /// `claim`, or under a claim of its own if that is empty.
    async fn start(&self, image: &ChosenImage, claim: String) -> Result<wire::StartReply> {
        let refused = match self.start_once(image, claim.clone()).await? {
            Ok(started) => return Ok(started),
            Err(status) => status,
        };
        let Some(here) = image.here.as_ref().filter(|_| refused.code() == Code::NotFound) else {
            return Err(refused.into());
        };
        if !claim.is_empty() {
            return self.send_and_start(image, here, claim).await;
        }
        let claim = self.claim().await?;
        let deployment = claim.deployment.clone();
        claim.hold(self.send_and_start(image, here, deployment)).await
    }

    async fn send_and_start(
        &self,
        image: &ChosenImage,
        here: &LocalImage,
        claim: String,
    ) -> Result<wire::StartReply> {
        let offer = wire::ImageOffer {
            environment: self.declared.spec.key.to_string(),
            spec: Some(wire::Document::of_content(&self.declared.spec)),
            claim: claim.clone(),
            ..wire::ImageOffer::default()
        };
        here.send(self.context, self.control.clone(), offer).await?;
        Ok(self.start_once(image, claim).await??)
    }

    async fn start_once(
        &self,
        image: &ChosenImage,
        claim: String,
    ) -> Result<std::result::Result<wire::StartReply, Status>> {
        let Self { context, args, declared, secrets, control } = self;
        if let Some(values) = secrets {
            let values = values.clone().into_iter().collect();
            import(context, &mut control.clone(), (declared, &args.env), values).await?;
        }
        let hash = args.plan.as_ref().map(ToString::to_string).unwrap_or_default();
        let plan = Some(request(context, args, declared, image));
        let grant = args.grant.as_ref().map(ToString::to_string).unwrap_or_default();
        let start = wire::StartRequest { plan, hash, claim, client: Some(client()), grant };
        let deadline = lock_deadline(args.wait_lock.as_deref())?;
        Ok(wait_for_lock(context, deadline, || {
            let (mut control, start) = (control.clone(), context.traced(start.clone()));
            async move { control.start(start).await }
        })
        .await)
    }

    async fn claim(&self) -> Result<Claim> {
        let Self { context, args, declared, control, .. } = self;
        let request = wire::ClaimRequest {
            environment: declared.spec.key.to_string(),
            spec: Some(wire::Document::of_content(&declared.spec)),
            client: Some(client()),
        };
        let claimed = wait_for_lock(context, lock_deadline(args.wait_lock.as_deref())?, || {
            let (mut control, request) = (control.clone(), request.clone());
            async move { control.claim(request).await }
        })
        .await?;
        let environment = declared.spec.key.clone();
        Ok(Claim { deployment: claimed.deployment, environment, control: control.clone() })
    }

    /// The lock is taken before the build, as before everything that takes time.
    async fn build_and_start(&self, source: &BuildSource) -> Result<wire::StartReply> {
        if self.args.plan.is_some() {
            return Err(Failure::new(Kind::Refused, "the plan cannot be run")
                .why(format!("a plan is for one image, and {} is not built yet", source.tag))
                .next(format!("lockstep deploy {}", self.args.env)));
        }
        let claim = self.claim().await?;
        let deployment = claim.deployment.clone();
        claim
            .hold(async {
                build::build(self.context, self.declared, source).await?;
                self.start(&ChosenImage::find(source.tag.clone()).await, deployment).await
            })
            .await
    }
}

pub async fn rollback(context: &Context, args: &RollbackArgs) -> Result<()> {
    let environment = context.key(&args.env)?.to_string();
    let to = args.to.clone().unwrap_or_default();
    let ask = wire::RollbackAsk { to, overwrite_site: args.overwrite_site };
    let request = wire::PlanRequest { environment, what: Some(What::Rollback(ask)) };
    let ended =
        if args.dry_run { show(context, request).await } else { run(context, starting(request)).await };
    ended.map_err(|failure| or_cancel(failure, &args.env))
}

/// Nobody needs a rollback whose open deployment can be reverted.
fn or_cancel(failure: Failure, env: &str) -> Failure {
    match &failure.lock {
        Some(ClaimKind::Running { deployment, .. }) => {
            let watch = format!("lockstep watch {deployment}");
            failure
                .next(format!(
                    "lockstep cancel {env}    # reverts the open deployment, and with it the traffic"
                ))
                .or(watch)
        }
        Some(ClaimKind::Building { .. } | ClaimKind::Stuck { .. } | ClaimKind::Freeze { .. }) | None => {
            failure
        }
    }
}

/// Adds, drains or removes an app host; `what` makes the request from the host's name.
pub async fn change_host(context: &Context, args: &HostChangeArgs, what: fn(String) -> What) -> Result<()> {
    let environment = context.key(&args.env)?.to_string();
    let request = wire::PlanRequest { environment, what: Some(what(args.host.clone())) };
    let grant = args.grant.as_ref().map(ToString::to_string).unwrap_or_default();
    if args.dry_run {
        return show(context, request).await;
    }
    run(context, wire::StartRequest { grant, ..starting(request) }).await
}

/// Shows the plan that takes an environment out of service, or runs the one with this hash and then removes the
/// environment.
pub async fn decommission(context: &Context, env: &str, plan: Option<&PlanHash>) -> Result<()> {
    let environment = context.key(env)?.to_string();
    let request =
        wire::PlanRequest { environment: environment.clone(), what: Some(What::Decommission(true)) };
    let Some(hash) = plan else { return show(context, request).await };
    run(context, wire::StartRequest { hash: hash.to_string(), ..starting(request) }).await?;
    let request = wire::EnvironmentRef { environment, ..wire::EnvironmentRef::default() };
    let done = context.control().await?.remove_environment(request).await?.into_inner();
    show_done(context, &done)
}

fn starting(request: wire::PlanRequest) -> wire::StartRequest {
    wire::StartRequest { plan: Some(request), client: Some(client()), ..wire::StartRequest::default() }
}

/// Shows the plan without running it.
async fn show(context: &Context, request: wire::PlanRequest) -> Result<()> {
    let reply = context.control().await?.plan(request).await?.into_inner();
    show_plan(context, &reply, None, None)
}

/// Starts an operation, shows its warnings, and follows it to its end.
async fn run(context: &Context, start: wire::StartRequest) -> Result<()> {
    let started = context.control().await?.start(context.traced(start)).await?.into_inner();
    let plan: Plan = read(started.plan.as_ref())?;
    for warning in &plan.warnings {
        context.output.line(warning)?;
    }
    follow(context, wire::DeploymentRef { deployment: started.deployment, environment: String::new() }).await
}

pub async fn cancel(context: &Context, typed: &str) -> Result<()> {
    let deployment = if is_deployment(typed) {
        let of_environment = "@open";
        reference(context, &Typed { text: typed, env: None, of_environment, command: ("cancel", "") })?
    } else {
        let environment = context.key(typed)?.to_string();
        wire::DeploymentRef { deployment: "@open".to_owned(), environment }
    };
    let request = wire::CancelRequest { deployment: Some(deployment) };
    let done = context.control().await?.cancel(request).await?.into_inner();
    show_done(context, &done)
}

/// Imports the .env file as the newest version of the secrets, if it differs from that version.
///
/// # Errors
/// When it would undo what somebody has set.
async fn import(
    context: &Context,
    control: &mut ControlClient<Channel>,
    (declared, env): (&DeclaredEnvironment, &str),
    values: HashMap<String, String>,
) -> Result<()> {
    let difference = difference(control, declared, values.clone()).await?;
    let changes = changes(&difference);
    if changes.is_empty() {
        return Ok(());
    }
    refuse_loss(declared, env, &difference)?;
    let environment = declared.spec.key.to_string();
    let ask = wire::ImportSecretsRequest { environment, values, replace: true };
    let reply = control.import_secrets(ask).await?.into_inner();
    context.output.line(&format!(
        "secrets version {} imported from {}: {}",
        reply.version,
        declared.env_file.display(),
        changes.join(", ")
    ))
}

/// What differs between the .env file and the newest version of the secrets: names only.
async fn difference(
    control: &mut ControlClient<Channel>,
    declared: &DeclaredEnvironment,
    values: HashMap<String, String>,
) -> Result<wire::DiffSecretsReply> {
    if values.is_empty() {
        return Ok(wire::DiffSecretsReply::default());
    }
    let ask = wire::DiffSecretsRequest { environment: declared.spec.key.to_string(), values };
    Ok(control.diff_secrets(ask).await?.into_inner())
}

fn changes(difference: &wire::DiffSecretsReply) -> Vec<String> {
    [("+", &difference.added), ("~", &difference.changed), ("-", &difference.removed)]
        .into_iter()
        .flat_map(|(sign, names)| names.iter().map(move |name| format!("{sign} {name}")))
        .collect()
}

/// A file that is older than what is stored would take away what somebody has set since.
fn refuse_loss(declared: &DeclaredEnvironment, env: &str, difference: &wire::DiffSecretsReply) -> Result<()> {
    if difference.undone.is_empty() {
        return Ok(());
    }
    let undone = difference.undone.iter().map(|wire::UndoneChange { name, by, at_ms }| {
        let is_removed = difference.removed.contains(name);
        let becomes = if is_removed { "would be removed" } else { "would have another value" };
        format!("{name} {becomes}: {by} set it {}", ago(Timestamp(*at_ms)))
    });
    let undone: Vec<String> = undone.collect();
    let file = declared.env_file.display();
    let what = format!("{file} would undo changes of the secrets of {}", declared.spec.key);
    Err(Failure::new(Kind::Refused, what)
        .why(undone.join("\n"))
        .next(format!("lockstep secret import {env}    # if the file is right"))
        .or(format!("change {file}, or move it away: without it the stored secrets are used")))
}

/// When the wait for the lock ends; `None` if the operator does not want to wait.
fn lock_deadline(wait: Option<&str>) -> Result<Option<Instant>> {
    let wait = wait.map(Millis::parse).transpose()?;
    Ok(wait.map(|wait| Instant::now() + Duration::from_millis(wait.0)))
}

/// Repeats the attempt until the environment is unlocked, or `until`.
async fn wait_for_lock<Answer>(
    context: &Context,
    until: Option<Instant>,
    attempt: impl Fn() -> Answer,
) -> std::result::Result<wire::StartReply, Status>
where
    Answer: Future<Output = std::result::Result<tonic::Response<wire::StartReply>, Status>>,
{
    let mut shown = None;
    loop {
        let status = match attempt().await {
            Ok(started) => return Ok(started.into_inner()),
            Err(status) => status,
        };
        let failure = Failure::from(status.clone());
        let may_wait = until.is_some_and(|until| Instant::now() < until);
        if failure.kind != Kind::Locked || !may_wait {
            return Err(status);
        }
        if shown.as_ref() != Some(&failure.what) {
            context.output.remark(&format!("waiting: {}", failure.what));
            shown = Some(failure.what);
        }
        tokio::time::sleep(LOCK_RETRY_EVERY).await;
    }
}

/// The image to deploy, and what Docker on this machine has by that name.
struct ChosenImage {
    name: String,
    here: Option<LocalImage>,
    /// For a plan, where no app host has it.
    offered: Option<wire::Document>,
}

impl ChosenImage {
    async fn find(name: String) -> Self {
        let here = LocalImage::find(&name).await;
        Self { name, here, offered: None }
    }
}

fn request(
    context: &Context,
    args: &DeployArgs,
    declared: &DeclaredEnvironment,
    image: &ChosenImage,
) -> wire::PlanRequest {
    let ChosenImage { name, here, offered } = image;
    let deploy = wire::DeployAsk {
        spec: Some(wire::Document::of_content(&declared.spec)),
        image: name.clone(),
        commit: args.commit.clone().unwrap_or_default(),
        branch: deployed_branch(context, args.branch.as_deref()).unwrap_or_default(),
        allow_any_branch: args.allow_branch,
        overwrite_site: args.overwrite_site,
        image_id: here.as_ref().map(|here| here.id.to_string()).unwrap_or_default(),
        offered: offered.clone(),
    };
    wire::PlanRequest { environment: declared.spec.key.to_string(), what: Some(What::Deploy(deploy)) }
}

/// The image to deploy: it has a name, or must be built first.
enum Image {
    Named(String),
    ToBuild(BuildSource),
}

/// Chooses the image: the one that was typed, else the tag of the commit at HEAD.
async fn choose_image(
    context: &Context,
    args: &DeployArgs,
    declared: &DeclaredEnvironment,
    verb: &str,
) -> Result<Image> {
    if let Some(image) = &args.image {
        return Ok(Image::Named(image.clone()));
    }
    let repository = match &declared.spec.image {
        ImageSource::Repository(repository) => repository,
        ImageSource::Build { context: folder, dockerfile } => {
            let source = BuildSource::resolve(context, declared, folder, dockerfile)?;
            if !source.is_built().await {
                return Ok(Image::ToBuild(source));
            }
            context.output.line(&format!("image {}, already built from the commit at HEAD", source.tag))?;
            return Ok(Image::Named(source.tag));
        }
    };
    let tagged = || {
        let image = Some(format!("{repository}:TAG"));
        let with_image = DeployArgs { image, ..args.clone() };
        format!("{}    # TAG: docker image ls {repository}", with_image.command_line(verb))
    };
    let commit = git(context, &["rev-parse", "--short=7", "HEAD"]).ok_or_else(|| {
        Failure::new(Kind::Refused, "no image was given")
            .why("the tag is that of the commit at HEAD, and this directory is not in a git checkout")
            .next(tagged())
    })?;
    if git(context, &["status", "--porcelain"]).is_some_and(|changes| !changes.is_empty()) {
        return Err(Failure::new(Kind::Refused, "the checkout has uncommitted changes")
            .why(format!("{repository}:{commit} does not contain them"))
            .next("git status    # commit what it shows")
            .or(tagged()));
    }
    let image = format!("{repository}:{commit}");
    context.output.line(&format!("image {image}, from the commit at HEAD"))?;
    Ok(Image::Named(image))
}

#[cfg(test)]
mod tests {
    use lockstep_core::record::claim::OperatorRequest;

    use super::*;

    fn locked(holder: ClaimKind) -> Failure {
        let failure = Failure::new(Kind::Locked, "production is locked").next("lockstep watch dep_01");
        Failure { lock: Some(holder), ..failure }
    }

    fn running() -> ClaimKind {
        let deployment = "dep_01JBQR2KXYZ987654321012345".parse().unwrap();
        ClaimKind::Running { deployment, request: OperatorRequest::None }
    }

    fn freeze() -> ClaimKind {
        ClaimKind::Freeze { reason: "fair".to_owned() }
    }

    fn args() -> DeployArgs {
        DeployArgs { image: Some("notes:2".to_owned()), allow_branch: true, ..DeployArgs::of("production") }
    }

    #[test]
    fn whoever_meets_a_lock_gets_the_whole_command_that_waits_for_it() {
        let next = or_wait(locked(running()), &args()).next.unwrap();
        let waiting = "lockstep deploy production --image notes:2 --allow-branch --wait-lock 10m    # waits for the lock";
        assert_eq!(next, format!("lockstep watch dep_01\n{waiting}"));
        assert_eq!(or_wait(locked(freeze()), &args()).next.unwrap(), "lockstep watch dep_01");
    }

    #[test]
    fn a_rollback_while_nothing_is_open_is_not_answered_with_a_cancel() {
        let next = |holder| or_cancel(locked(holder), "production").next.unwrap();
        assert!(next(running()).starts_with("lockstep cancel production "));
        assert!(!next(freeze()).contains("cancel"));
    }
}
