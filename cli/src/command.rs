//! The commands, in rooms: the cluster, an environment, its deployments, and this machine.

pub mod cluster;
mod confirm;
pub mod deployment;
pub mod doctor;
pub mod environment;
pub mod manual;
mod reply;
pub mod up;

use lockstep_proto::wire::plan_request::What;

use crate::args::{
    Arguments, Command, CoordinatorCommand, EnvCommand, FenceCommand, HostCommand, LockCommand,
    OperatorCommand, SecretCommand, StateCommand,
};
use crate::command::cluster::hosts::Form;
use crate::command::cluster::{
    authority, backups, coordinators, hosts, machine_tokens, operators, registries,
};
use crate::command::deployment::{deploy, history, images, is_deployment, resolve, watch};
use crate::command::environment::{environments, lock, logs, secrets, status};
use crate::context::Context;
use crate::failure::Result;

/// Runs the command that was typed.
///
/// # Errors
/// When it does not succeed.
pub async fn run(arguments: Arguments) -> Result<()> {
    let context = Context::new(&arguments)?;
    let env = arguments.command.environment().filter(|env| !is_deployment(env)).map(ToOwned::to_owned);
    let image = arguments.command.image().map(ToOwned::to_owned);
    let Err(failure) = dispatch(&context, arguments.command).await else { return Ok(()) };
    let failure = context.complete_hint(failure, env.as_deref());
    Err(images::complete_hint(&context, failure, env.as_deref(), image.as_deref()).await)
}

async fn dispatch(context: &Context, command: Command) -> Result<()> {
    match command {
        Command::Up(args) => up::up(context, &args).await,
        Command::Down(args) => up::down::down(context, &args).await,
        Command::Plan(args) => deploy::plan(context, &args).await,
        Command::Deploy(args) if args.dry_run => deploy::plan(context, &args).await,
        Command::Deploy(args) => deploy::deploy(context, &args).await,
        Command::Rollback(args) => deploy::rollback(context, &args).await,
        Command::Cancel { env } => deploy::cancel(context, &env).await,
        Command::Resolve(args) => resolve::resolve(context, args).await,
        Command::Status { env } => status::status(context, env.as_deref()).await,
        Command::History { env, limit } => history::history(context, &env, limit).await,
        Command::Show { dep, env } => history::show(context, &dep, env.as_deref()).await,
        Command::Watch { dep, env } => watch::watch(context, &dep, env.as_deref()).await,
        Command::Logs(args) => logs::logs(context, &args).await,
        Command::Lock(LockCommand::Status { env }) => lock::status(context, &env).await,
        Command::Lock(LockCommand::Freeze(args)) | Command::Freeze(args) => lock::freeze(context, args).await,
        Command::Lock(LockCommand::Thaw { env }) | Command::Thaw { env } => lock::thaw(context, &env).await,
        Command::Audit { env } => logs::audit(context, env.as_deref()).await,
        Command::Secret(SecretCommand::Import { env }) => secrets::import(context, &env).await,
        Command::Secret(SecretCommand::Set { env, name, more }) => {
            secrets::set(context, &env, &name, &more).await
        }
        Command::Secret(SecretCommand::Get { env, .. }) => secrets::get(&env),
        Command::Secret(SecretCommand::List { env }) => secrets::list(context, &env).await,
        Command::Secret(SecretCommand::Diff { env }) => secrets::diff(context, &env).await,
        Command::Env(command) => environment(context, command).await,
        Command::Coordinator(CoordinatorCommand::List) => coordinators::list(context).await,
        Command::Coordinator(CoordinatorCommand::Token { name }) => {
            coordinators::create_token(context, name).await
        }
        Command::Coordinator(CoordinatorCommand::Remove { name }) => {
            coordinators::remove(context, name).await
        }
        Command::Authority(command) => authority::run(context, command).await,
        Command::Host(HostCommand::List) => hosts::list(context).await,
        Command::Host(HostCommand::Token { name, roles, cloud_init }) => {
            let form = if cloud_init { Form::UserData } else { Form::Line };
            hosts::create_token(context, name, roles, form).await
        }
        Command::Host(HostCommand::Add(args)) => deploy::change_host(context, &args, What::AddHost).await,
        Command::Host(HostCommand::Drain(args)) => deploy::change_host(context, &args, What::DrainHost).await,
        Command::Host(HostCommand::Remove(args)) => {
            deploy::change_host(context, &args, What::RemoveHost).await
        }
        Command::Host(HostCommand::Forget { name }) => hosts::forget(context, name).await,
        Command::Registry(command) => registries::run(context, command).await,
        Command::Token(command) => machine_tokens::run(context, command).await,
        Command::Operator(OperatorCommand::Add { name, env, role }) => {
            operators::add(context, name, env, role).await
        }
        Command::Operator(OperatorCommand::List) => operators::list(context).await,
        Command::Operator(OperatorCommand::Revoke { name }) => operators::revoke(context, name).await,
        Command::Backup { to } => backups::backup(context, &to).await,
        Command::Restore { file, directory } => backups::restore(&file, &directory),
        Command::Fence(FenceCommand::Bump { env }) => backups::bump_fence(context, &env).await,
        Command::State(StateCommand::Export { env }) => environments::export(context, &env).await,
        Command::Schema => manual::schema(context.output),
        Command::Doctor { env } => doctor::doctor(context, env.as_deref()).await,
        Command::Login => operators::login(context).await,
        Command::Completions { shell } => manual::completions(shell, context.output),
        Command::PackageFiles { directory } => manual::package_files(&directory),
    }
}

async fn environment(context: &Context, command: EnvCommand) -> Result<()> {
    match command {
        EnvCommand::List => environments::list(context).await,
        EnvCommand::Show { env, effective: true } => environments::effective(context, &env),
        EnvCommand::Show { env, effective: false } => environments::show(context, &env).await,
        EnvCommand::Check { env } => environments::check(context, &env),
        EnvCommand::Grant(args) => environments::grant(context, args).await,
        EnvCommand::Revoke { env, resources } => environments::revoke(context, &env, &resources).await,
        EnvCommand::Decommission { env, plan } => deploy::decommission(context, &env, plan.as_ref()).await,
        EnvCommand::Remove(args) => environments::remove(context, args).await,
    }
}
