//! The arguments of the command line. The doc comments are the help texts.
#![allow(rustdoc::invalid_html_tags, reason = "a placeholder of the help is no tag")]

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

mod cluster;
mod deployment;
mod environment;
mod machine;

pub use cluster::{
    AuthorityCommand, CoordinatorCommand, FenceCommand, HostChangeArgs, HostCommand, OperatorCommand,
    RegistryCommand, TokenCommand,
};
pub use deployment::{DeployArgs, ResolutionArgs, ResolveArgs, RollbackArgs};
pub use environment::{
    EnvCommand, FreezeArgs, GrantArgs, LockCommand, LogsArgs, RemoveArgs, ResourceArgs, SecretCommand,
    StateCommand,
};
pub use machine::{DIRECTORY, DownArgs, UpArgs};

/// Deploy web applications to Linux hosts without downtime.
///
/// ENV is an environment of the deployment.yml in this directory (production), or <app>/<env> from any directory.
/// DEP is the id of a deployment, an unambiguous prefix of it, @open, @last or the environment that it is of.
#[derive(Debug, Parser)]
#[command(name = "lockstep", version, propagate_version = true, after_help = EXAMPLES)]
pub struct Arguments {
    /// Output format.
    #[arg(long, global = true, value_enum, default_value_t = Format::Human)]
    pub output: Format,

    /// Directory of the operator's credential.
    #[arg(long, global = true, env = "LOCKSTEP_CREDENTIAL", hide_env_values = true, value_name = "DIR")]
    pub credential: Option<PathBuf>,

    /// Address of the coordinator, or several with commas between them. Default: the addresses in the credential.
    #[arg(long, global = true, env = "LOCKSTEP_COORDINATOR", value_name = "HOST:PORT")]
    pub coordinator: Option<String>,

    /// W3C Trace Context of the caller, whose trace the command continues.
    #[arg(long, global = true, env = "TRACEPARENT", hide = true)]
    pub traceparent: Option<String>,

    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  lockstep plan production --image notes:1.0.0    # show what would happen
  lockstep deploy production --image notes:1.0.0
  lockstep status production
  lockstep rollback production                    # to the last good release

Exit codes:
  0    done
  1    the deployment failed and was rolled back, or a check failed
  2    the arguments are wrong
  3    refused before anything started
  4    the environment is locked
  5    the coordinator is unreachable
  6    the deployment is stuck
  130  interrupted; a deployment that has started continues";

/// The argument ENV.
const ENV: &str = "Environment, as in production, or notes/production from any directory";

/// The argument DEP.
const DEP: &str = "Deployment: its id, an unambiguous prefix of it, @open, @last or its environment";

/// The directory of the coordinator that `up` sets up.
const COORDINATOR_DIRECTORY: &str = "/var/lib/lockstep/coordinator";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Human,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set up this machine: coordinator, agent and your credential
    #[command(after_help = "\
Examples:
  lockstep up                       # everything on this machine, as root
  lockstep up --address 10.0.0.5    # nginx on other hosts reaches it there
  lockstep up --listen 10.0.0.5:7443    # other hosts can join
  lockstep down                     # stop both; applications keep serving")]
    Up(UpArgs),
    /// Stop coordinator and agent on this machine; applications keep serving
    #[command(after_help = "\
Examples:
  lockstep down            # `lockstep up` starts both again
  lockstep down --purge    # also remove their data, after listing it")]
    Down(DownArgs),
    /// Show what a deployment would do, without doing it
    #[command(after_help = "\
Examples:
  lockstep plan production                        # the commit at HEAD
  lockstep plan production --image notes:1.0.0

The last line of a plan is the command that runs exactly this plan.")]
    Plan(DeployArgs),
    /// Deploy a release
    #[command(after_help = "\
Examples:
  lockstep deploy production --image notes:1.0.0
  lockstep deploy production --wait-lock 10m           # from CI
  lockstep deploy production --detach                  # do not follow it
  lockstep watch @last --env production

`lockstep plan` prints the command that runs exactly the plan that it shows.")]
    Deploy(DeployArgs),
    /// Switch the traffic back to an earlier release
    #[command(after_help = "\
Examples:
  lockstep rollback production              # to the last good release
  lockstep rollback production --dry-run    # only show the plan")]
    Rollback(RollbackArgs),
    /// Cancel the open deployment and revert its steps
    #[command(after_help = "\
Examples:
  lockstep status production    # shows what a cancel would cost now
  lockstep cancel production")]
    Cancel {
        #[arg(help = "Environment, as in production or notes/production, or the id of its open deployment")]
        env: String,
    },
    /// Resolve a stuck deployment, after showing the cost
    #[command(after_help = "\
Examples:
  lockstep status production                  # every resolution and its cost
  lockstep resolve production --retry
  lockstep resolve dep_01J8 --unwind          # by a prefix of its id
  lockstep resolve dep_01J8 --skip s3")]
    Resolve(ResolveArgs),
    /// Show the status of one environment, or of all
    #[command(after_help = "\
Examples:
  lockstep status                     # every environment
  lockstep status notes/production    # from any directory")]
    Status {
        #[arg(help = ENV)]
        env: Option<String>,
    },
    /// List deployments, newest first
    #[command(after_help = "\
Examples:
  lockstep history production --limit 50
  lockstep history production --output json")]
    History {
        #[arg(help = ENV)]
        env: String,
        /// Maximum number of deployments.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Show one deployment and its journal
    #[command(after_help = "\
Examples:
  lockstep show @last --env production
  lockstep show dep_01J8    # by a prefix of its id, from any directory")]
    Show {
        #[arg(help = DEP)]
        dep: String,
        /// Environment of @open and @last.
        #[arg(long)]
        env: Option<String>,
    },
    /// Follow a deployment until it ends
    #[command(after_help = "\
Examples:
  lockstep watch @open --env production
  lockstep watch dep_01J8

Ctrl-C ends the watching; the deployment continues.")]
    Watch {
        #[arg(help = DEP)]
        dep: String,
        /// Environment of @open and @last.
        #[arg(long)]
        env: Option<String>,
    },
    /// Show the output of the live release, or the log of a deployment
    #[command(after_help = "\
Examples:
  lockstep logs production --process worker --tail 20
  lockstep logs production --deployment @last
  lockstep logs production --deployment @last --step s4")]
    Logs(LogsArgs),
    /// Show who holds the lock of an environment, or freeze deployments
    #[command(after_help = "\
Examples:
  lockstep lock freeze production --reason 'trade fair' --for 3h
  lockstep lock thaw production")]
    #[command(subcommand)]
    Lock(LockCommand),
    /// Refuse deployments for some time: lock freeze
    #[command(hide = true)]
    Freeze(FreezeArgs),
    /// End a freeze: lock thaw
    #[command(hide = true)]
    Thaw {
        #[arg(help = ENV)]
        env: String,
    },
    /// Show who changed what, newest first, and who was refused what
    #[command(after_help = "\
Examples:
  lockstep audit production
  lockstep audit    # of every environment that you may see, and of the cluster")]
    Audit {
        #[arg(help = ENV)]
        env: Option<String>,
    },
    /// Manage the secrets of an environment
    ///
    /// Commands print names and fingerprints, never values.
    #[command(after_help = "\
Examples:
  lockstep secret diff production    # what importing .env.production changes
  lockstep secret set production API_KEY < key.txt
  lockstep secret set production API_KEY    # a terminal asks for it")]
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Manage environments
    #[command(after_help = "\
Examples:
  lockstep env check production               # check deployment.yml and .env
  lockstep env show production --effective    # every value and its origin")]
    #[command(subcommand)]
    Env(EnvCommand),
    /// Manage hosts
    #[command(after_help = "\
Examples:
  lockstep host list
  lockstep host token --name app-1 --role app    # prints the command to join
  lockstep host token --role app --cloud-init > user-data")]
    #[command(subcommand)]
    Host(HostCommand),
    /// Manage the credentials with which hosts pull from registries
    #[command(after_help = "\
Examples:
  lockstep registry login ghcr.io --username anna < token
  lockstep registry check

The coordinator stores credentials encrypted. A host gets one for a pull and
does not keep it.")]
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Manage coordinators
    #[command(after_help = "\
Examples:
  lockstep coordinator list
  lockstep coordinator token --name c2    # prints the command to join")]
    #[command(subcommand)]
    Coordinator(CoordinatorCommand),
    /// Manage the root certificate of the cluster
    #[command(after_help = "\
Examples:
  lockstep authority rotate    # a new root signs from now on
  lockstep authority list      # who still needs the earlier root
  lockstep authority retire    # stop trusting the earlier root

Hosts and coordinators get certificates of the new root by themselves.")]
    #[command(subcommand)]
    Authority(AuthorityCommand),
    /// Manage operators
    #[command(after_help = "\
Examples:
  lockstep operator add bert --env 'notes/*' --role deploy
  lockstep operator list")]
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// Manage tokens of machines, as of a CI system
    ///
    /// Whoever has the token in LOCKSTEP_TOKEN runs commands with it; nothing is stored on that machine.
    #[command(after_help = "\
Examples:
  lockstep token create ci --env notes/production --allow deploy --branch main
  lockstep token list
  lockstep token renew ci --for 90d    # the same token, for longer
  lockstep token revoke ci

In the pipeline, with LOCKSTEP_COORDINATOR and LOCKSTEP_TOKEN set:
  lockstep deploy production --wait-lock 10m")]
    #[command(subcommand)]
    Token(TokenCommand),
    /// Export the recorded state
    #[command(after_help = "\
Examples:
  lockstep state export production > deployment-state.json")]
    #[command(subcommand)]
    State(StateCommand),
    /// Back up all data of the coordinator to an encrypted file
    ///
    /// The passphrase is read from standard input.
    #[command(after_help = "\
Examples:
  lockstep backup --to lockstep.backup < passphrase

`lockstep restore` restores it, to SQLite or to etcd.")]
    Backup {
        /// File to write. It must not exist.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Restore a backup on this machine
    ///
    /// No coordinator may run here. The passphrase is read from standard input. A coordinator.toml in the directory
    /// says where to restore to; without one, the data is restored to SQLite in the directory, which must not have any.
    #[command(after_help = "\
Examples:
  lockstep restore lockstep.backup < passphrase
  lockstep restore lockstep.backup --directory DIR < passphrase")]
    Restore {
        /// File that `lockstep backup` wrote.
        file: PathBuf,
        /// Directory of the coordinator.
        #[arg(long, value_name = "DIR", default_value = COORDINATOR_DIRECTORY)]
        directory: PathBuf,
    },
    /// Manage fencing epochs
    #[command(after_help = "\
Examples:
  lockstep fence bump production    # after etcd was restored from a snapshot")]
    #[command(subcommand)]
    Fence(FenceCommand),
    /// Log in as an operator with a one-time token from standard input
    #[command(after_help = "\
Examples:
  lockstep login --coordinator deploy.example:7443 < token")]
    Login,
    /// Check this machine, the cluster and its environments for problems
    #[command(after_help = "\
Examples:
  lockstep doctor               # credential, coordinator, hosts, environments
  lockstep doctor production    # also deployment.yml and the secrets")]
    Doctor {
        #[arg(help = ENV)]
        env: Option<String>,
    },
    /// Print the JSON Schema of deployment.yml for editors
    #[command(after_help = "\
Examples:
  lockstep schema > deployment.schema.json

To use it in an editor, begin deployment.yml with this line:
  # yaml-language-server: $schema=deployment.schema.json")]
    Schema,
    /// Print a shell completion script
    #[command(after_help = "\
Examples:
  lockstep completions bash > /etc/bash_completion.d/lockstep
  lockstep completions zsh > ~/.zfunc/_lockstep")]
    Completions {
        /// Shell to complete for.
        shell: clap_complete::Shell,
    },
    /// Write manual pages, completion scripts and the reference of deployment.yml, for packages
    #[command(hide = true)]
    PackageFiles {
        /// Directory to write to.
        directory: PathBuf,
    },
}

impl Command {
    /// The environment that was typed; `None` if the command is of none, or takes all of them.
    pub fn environment(&self) -> Option<&str> {
        match self {
            Self::Plan(DeployArgs { env, .. })
            | Self::Deploy(DeployArgs { env, .. })
            | Self::Rollback(RollbackArgs { env, .. })
            | Self::Logs(LogsArgs { env, .. })
            | Self::Cancel { env }
            | Self::History { env, .. }
            | Self::Lock(
                LockCommand::Status { env }
                | LockCommand::Freeze(FreezeArgs { env, .. })
                | LockCommand::Thaw { env },
            )
            | Self::Freeze(FreezeArgs { env, .. })
            | Self::Thaw { env }
            | Self::Secret(
                SecretCommand::Import { env }
                | SecretCommand::Set { env, .. }
                | SecretCommand::Get { env, .. }
                | SecretCommand::List { env }
                | SecretCommand::Diff { env },
            )
            | Self::Env(
                EnvCommand::Show { env, .. }
                | EnvCommand::Check { env }
                | EnvCommand::Grant(GrantArgs { env, .. })
                | EnvCommand::Revoke { env, .. }
                | EnvCommand::Decommission { env, .. }
                | EnvCommand::Remove(RemoveArgs { env, .. }),
            )
            | Self::Host(
                HostCommand::Add(HostChangeArgs { env, .. })
                | HostCommand::Drain(HostChangeArgs { env, .. })
                | HostCommand::Remove(HostChangeArgs { env, .. }),
            )
            | Self::State(StateCommand::Export { env })
            | Self::Fence(FenceCommand::Bump { env }) => Some(env),
            Self::Resolve(ResolveArgs { env, .. })
            | Self::Status { env }
            | Self::Show { env, .. }
            | Self::Watch { env, .. }
            | Self::Audit { env }
            | Self::Doctor { env } => env.as_deref(),
            Self::Up(_)
            | Self::Down(_)
            | Self::Env(EnvCommand::List)
            | Self::Host(HostCommand::List | HostCommand::Token { .. } | HostCommand::Forget { .. })
            | Self::Registry(_)
            | Self::Coordinator(_)
            | Self::Authority(_)
            | Self::Operator(_)
            | Self::Token(_)
            | Self::Backup { .. }
            | Self::Restore { .. }
            | Self::Login
            | Self::Schema
            | Self::Completions { .. }
            | Self::PackageFiles { .. } => None,
        }
    }

    /// The image that was typed.
    pub fn image(&self) -> Option<&str> {
        let (Self::Plan(args) | Self::Deploy(args)) = self else { return None };
        args.image.as_deref()
    }

    /// Whether the exit code reports how a deployment ended.
    pub fn reports_end(&self) -> bool {
        matches!(self, Self::Deploy(_) | Self::Rollback(_) | Self::Resolve(_) | Self::Watch { .. })
    }
}
