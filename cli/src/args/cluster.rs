//! The commands of the cluster: hosts, coordinators, registries, operators.
#![allow(rustdoc::invalid_html_tags, reason = "a placeholder of the help is no tag")]

use clap::{Args, Subcommand};
use lockstep_core::host::HostRole;
use lockstep_core::record::grant::WideningHash;

use super::ENV;

#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// List hosts: roles, health, and when each was last seen
    List,
    /// Create a one-time token for a new host, and print the command to join
    Token {
        /// Name of the host. Default: the host name of the machine that joins.
        #[arg(long)]
        name: Option<String>,
        /// Roles of the host: app, lb, db. Default: all.
        #[arg(long = "role", alias = "roles", value_name = "ROLES", value_delimiter = ',')]
        roles: Vec<HostRole>,
        /// Print cloud-init user data that installs lockstep-agent and joins.
        #[arg(long)]
        cloud_init: bool,
    },
    /// Add an app host to an environment
    ///
    /// The host runs the live release and gets its share of the traffic. It may be one that was drained.
    #[command(after_help = "\
Examples:
  lockstep host add production app-3 --dry-run    # only show the plan
  lockstep host add production app-3")]
    Add(HostChangeArgs),
    /// Drain an app host: stop its traffic and its containers
    ///
    /// The host stays declared. A host that does not answer can be drained too.
    #[command(after_help = "\
Examples:
  lockstep host drain production app-3
  lockstep host add production app-3      # bring it back")]
    Drain(HostChangeArgs),
    /// Drain an app host and remove it from the environment
    #[command(after_help = "\
Examples:
  lockstep host remove production app-3")]
    Remove(HostChangeArgs),
    /// Forget a host that no environment uses, and revoke its certificate
    Forget {
        /// Name of the host.
        name: String,
    },
}

#[derive(Debug, Args)]
pub struct HostChangeArgs {
    #[arg(help = ENV)]
    pub env: String,
    /// Name of the host.
    pub host: String,
    /// Grant what the plan with this hash of a grant shows. For administrators of all environments.
    #[arg(long, value_name = "HASH")]
    pub grant: Option<WideningHash>,
    /// Show the plan without running it.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Store a password or token, read from standard input
    Login {
        /// Registry: what stands before the first slash of an image, as in ghcr.io or 10.0.0.5:5000, or docker.io.
        registry: String,
        /// User name. Default: `token`, for registries that check only the token.
        #[arg(long)]
        username: Option<String>,
    },
    /// List registries and user names
    List,
    /// Check on every app host that the registry accepts the credential
    Check {
        /// Registry. Default: every registry with a stored credential.
        registry: Option<String>,
    },
    /// Delete the credential of a registry
    Logout {
        /// Registry, as in ghcr.io.
        registry: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum FenceCommand {
    /// Raise the epoch above every epoch that a host has seen
    ///
    /// The driver of the environment stops, and a driver with the new epoch continues.
    Bump {
        #[arg(help = ENV)]
        env: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum CoordinatorCommand {
    /// List coordinators: lease, connected hosts, driven environments
    List,
    /// Create a one-time token for a new coordinator; needs etcd
    Token {
        /// Name of the coordinator. Default: the host name of the machine that joins.
        #[arg(long)]
        name: Option<String>,
    },
    /// Remove a coordinator and revoke its certificates
    Remove {
        /// Name of the coordinator.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum AuthorityCommand {
    /// List the trusted roots, and who still needs the earlier one
    List,
    /// Let a new root sign; the earlier one stays trusted until it is retired
    Rotate,
    /// Stop trusting the earlier root; refused while a host or coordinator needs it
    Retire {
        /// Retire it anyway. Hosts and coordinators that need it must join again.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Create a token for a machine
    Create {
        /// Name of the machine, as the audit log shows it.
        name: String,
        /// The environment, as `<app>/<env>`.
        #[arg(long)]
        env: String,
        /// What it may do: plan, deploy, rollback, secrets.
        #[arg(long, value_delimiter = ',', default_value = "plan,deploy,rollback", value_name = "VERBS")]
        allow: Vec<String>,
        /// The repository of the images that it may deploy. Default: any.
        #[arg(long, value_name = "REPOSITORY")]
        repository: Option<String>,
        /// The branch that it may deploy from. Default: any.
        #[arg(long, value_name = "NAME")]
        branch: Option<String>,
        /// How long it is good for, as in 90d.
        #[arg(long = "for", default_value = "90d", value_name = "DURATION")]
        life: String,
    },
    /// List tokens: what they allow, and until when
    List,
    /// Let the same token be good for longer
    Renew {
        /// Name of the machine.
        name: String,
        /// From now on, as in 90d.
        #[arg(long = "for", default_value = "90d", value_name = "DURATION")]
        life: String,
    },
    /// Revoke a token at once; a deployment that it started goes on
    Revoke {
        /// Name of the machine.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Create a one-time token for a new operator
    Add {
        /// Name of the operator.
        name: String,
        /// Environments: `*`, `<app>/*` or `<app>/<env>`.
        #[arg(long, default_value = "*")]
        env: String,
        /// Role: read, deploy or admin.
        #[arg(long, default_value = "deploy")]
        role: String,
    },
    /// List operators, and when their certificates expire
    List,
    /// Revoke the certificate and the tokens of an operator at once
    Revoke {
        /// Name of the operator.
        name: String,
    },
}
