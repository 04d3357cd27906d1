//! The commands of an environment beside its deployments.
#![allow(rustdoc::invalid_html_tags, reason = "a placeholder of the help is no tag")]

use clap::{Args, Subcommand};

use super::ENV;

#[derive(Debug, Args)]
pub struct LogsArgs {
    #[arg(help = ENV)]
    pub env: String,
    /// Show the log of this deployment instead of the output of the live release.
    #[arg(long, value_name = "DEP")]
    pub deployment: Option<String>,
    /// Show only this step of the deployment.
    #[arg(long, value_name = "STEP")]
    pub step: Option<String>,
    /// Show only this process.
    #[arg(long)]
    pub process: Option<String>,
    /// Number of lines to begin with; 0 for none.
    #[arg(long, default_value_t = 100)]
    pub tail: u32,
    /// Follow the output.
    #[arg(long, short)]
    pub follow: bool,
}

#[derive(Debug, Subcommand)]
pub enum LockCommand {
    /// Show who holds the lock, since when and until when
    Status {
        #[arg(help = ENV)]
        env: String,
    },
    /// Refuse deployments for some time
    Freeze {
        #[arg(help = ENV)]
        env: String,
        /// Reason, shown to operators whose deployment is refused.
        #[arg(long)]
        reason: String,
        /// Length of the freeze, as in 2h or 3d.
        #[arg(long, value_name = "DURATION")]
        r#for: String,
    },
    /// End a freeze
    Thaw {
        #[arg(help = ENV)]
        env: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Import the .env file of the environment as the newest version
    Import {
        #[arg(help = ENV)]
        env: String,
    },
    /// Set one secret, read from standard input
    Set {
        #[arg(help = ENV)]
        env: String,
        /// Name of the secret.
        name: String,
    },
    /// List names and fingerprints of the newest version
    List {
        #[arg(help = ENV)]
        env: String,
    },
    /// Show what an import would change, names only
    Diff {
        #[arg(help = ENV)]
        env: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum EnvCommand {
    /// List environments and their live releases
    List,
    /// Show the recorded declaration
    Show {
        #[arg(help = ENV)]
        env: String,
        /// Show what deployment.yml in this directory declares, and where each value is set.
        #[arg(long)]
        effective: bool,
    },
    /// Check deployment.yml and the .env file
    Check {
        #[arg(help = ENV)]
        env: String,
    },
    /// Remove an environment; refused while it serves, or may serve
    ///
    /// Its declaration, ports and pending undos are forgotten. Its history and secrets stay.
    #[command(after_help = "\
Examples:
  lockstep env remove staging
  lockstep env remove staging --abandon    # also while it serves")]
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "a flag is there or not")]
pub struct RemoveArgs {
    #[arg(help = ENV)]
    pub env: String,
    /// Remove it even if it serves, or if a host cannot be asked what runs there.
    ///
    /// What runs keeps running, and nothing manages it. Containers, nginx sites and volumes stay on the hosts until
    /// they are removed by hand. There is no rollback, no health check and no log. Pending undos never run. The ports
    /// may be given to other environments while containers still listen on them. An open deployment is cancelled
    /// first.
    #[arg(long)]
    pub abandon: bool,
    /// Do not ask for confirmation.
    #[arg(long, requires = "abandon")]
    pub yes: bool,
}

#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// Print the recorded state as deployment-state.json
    Export {
        #[arg(help = ENV)]
        env: String,
    },
}
