//! The commands of an environment beside its deployments.
#![allow(rustdoc::invalid_html_tags, reason = "a placeholder of the help is no tag")]

use clap::{Args, Subcommand};
use lockstep_core::name::HostName;
use lockstep_core::plan::PlanHash;
use lockstep_core::record::grant::{HostPath, Resource, normal_path};
use lockstep_core::spec::{VolumeAccess, normal_site_name};

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
    Freeze(FreezeArgs),
    /// End a freeze
    Thaw {
        #[arg(help = ENV)]
        env: String,
    },
}

#[derive(Debug, Args)]
pub struct FreezeArgs {
    #[arg(help = ENV)]
    pub env: String,
    /// Reason, shown to operators whose deployment is refused.
    #[arg(long)]
    pub reason: String,
    /// Length of the freeze, as in 2h or 3d.
    #[arg(long, value_name = "DURATION")]
    pub r#for: String,
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
        /// Refused: a value is read from standard input.
        #[arg(hide = true, num_args = 0.., allow_hyphen_values = true)]
        more: Vec<String>,
    },
    /// Refused: values are shown to nobody
    #[command(hide = true)]
    Get {
        #[arg(help = ENV)]
        env: String,
        /// Name of the secret.
        name: Option<String>,
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
    /// Show or widen what an environment may use outside of its containers
    ///
    /// Without options it shows the grant. Only administrators of all environments may widen it.
    #[command(after_help = "\
Examples:
  lockstep env grant staging                        # what is granted
  lockstep env grant staging --host app-2 --path /srv/uploads
  lockstep env grant staging --path /etc/ssl/certs:ro --network backend")]
    Grant(GrantArgs),
    /// Take back what was granted; what runs keeps running
    Revoke {
        #[arg(help = ENV)]
        env: String,
        #[command(flatten)]
        resources: ResourceArgs,
    },
    /// Take an application out of service and remove it from its hosts
    ///
    /// Without --plan it shows what would be done and changes nothing. nginx serves the environment no more, its
    /// workers stop, the database gets a last snapshot, and containers and images are removed. Volumes, the database
    /// and snapshots stay. Until the snapshot is verified, a failure brings everything back. Then the environment is
    /// removed, as by `lockstep env remove`. For administrators of the environment.
    #[command(after_help = "\
Examples:
  lockstep env decommission staging
  lockstep env decommission staging --plan d871c4-33eb15-ba61bb-be4847")]
    Decommission {
        #[arg(help = ENV)]
        env: String,
        /// Run exactly the plan with this hash; refuse any other.
        #[arg(long, value_name = "HASH")]
        plan: Option<PlanHash>,
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

#[derive(Debug, Args)]
pub struct GrantArgs {
    #[arg(help = ENV)]
    pub env: String,
    #[command(flatten)]
    pub resources: ResourceArgs,
    /// Give it the names on hosts that an earlier version gave to it and to another environment.
    #[arg(long)]
    pub own_shared_names: bool,
}

#[derive(Debug, Args)]
pub struct ResourceArgs {
    /// A host on which it may run. May be repeated, like all of these.
    #[arg(long, value_name = "HOST")]
    pub host: Vec<HostName>,
    /// A host name under which it may be served.
    #[arg(long, value_name = "NAME")]
    pub site_name: Vec<String>,
    /// A path of its hosts that its containers may mount; with :ro at its end, read-only.
    #[arg(long, value_name = "PATH", value_parser = absolute_path)]
    pub path: Vec<String>,
    /// A Docker network that its containers may join.
    #[arg(long, value_name = "NAME")]
    pub network: Vec<String>,
    /// A folder for its database snapshots.
    #[arg(long, value_name = "PATH", value_parser = absolute_path)]
    pub snapshot_directory: Vec<String>,
    /// A certificate or key file on the load balancer.
    #[arg(long, value_name = "PATH", value_parser = absolute_path)]
    pub certificate_file: Vec<String>,
}

/// A path on a host is not relative to where the command runs.
fn absolute_path(text: &str) -> Result<String, &'static str> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err("write a path that begins with a slash") }
}

impl ResourceArgs {
    /// What the options name.
    pub fn resources(&self) -> Vec<Resource> {
        let Self { host, site_name, path, network, snapshot_directory, certificate_file } = self;
        let host_path = |text: &String| match text.strip_suffix(":ro") {
            Some(path) => HostPath { path: normal_path(path), access: VolumeAccess::ReadOnly },
            None => HostPath { path: normal_path(text), access: VolumeAccess::ReadWrite },
        };
        let mut resources: Vec<Resource> = host.iter().cloned().map(Resource::Host).collect();
        resources.extend(site_name.iter().map(|name| Resource::SiteName(normal_site_name(name))));
        resources.extend(path.iter().map(host_path).map(Resource::HostPath));
        resources.extend(network.iter().cloned().map(Resource::Network));
        resources
            .extend(snapshot_directory.iter().map(|path| Resource::SnapshotDirectory(normal_path(path))));
        resources.extend(certificate_file.iter().map(|path| Resource::CertificateFile(normal_path(path))));
        resources
    }
}

#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// Print the recorded state as deployment-state.json
    Export {
        #[arg(help = ENV)]
        env: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_on_hosts_is_no_relative_path() {
        assert_eq!(absolute_path("/srv/uploads:ro").as_deref(), Ok("/srv/uploads:ro"));
        for relative in ["uploads", "./uploads", "", "~/uploads"] {
            assert!(absolute_path(relative).is_err(), "{relative}");
        }
    }
}
