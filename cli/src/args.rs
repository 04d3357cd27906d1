//! What can be typed. The comments are the help.
#![allow(rustdoc::invalid_html_tags, reason = "a placeholder of the help is no tag")]

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lockstep_core::host::HostRole;
use lockstep_core::id::StepId;
use lockstep_core::plan::PlanHash;

/// Deploys web applications to ordinary Linux hosts with no downtime and nothing lost.
///
/// ENV is an environment of the deployment.yml here (production), or <app>/<env> from anywhere.
/// DEP is a deployment's id, a unique beginning of it, @open or @last.
#[derive(Debug, Parser)]
#[command(name = "lockstep", version, propagate_version = true, after_help = EXAMPLES)]
pub struct Arguments {
    /// How answers are written.
    #[arg(long, global = true, value_enum, default_value_t = Format::Human)]
    pub output: Format,

    /// The directory of the operator's credential.
    #[arg(long, global = true, env = "LOCKSTEP_CREDENTIAL", hide_env_values = true, value_name = "DIR")]
    pub credential: Option<PathBuf>,

    /// The coordinator, if not those of the credential; several with commas between them.
    #[arg(long, global = true, env = "LOCKSTEP_COORDINATOR", value_name = "HOST:PORT")]
    pub coordinator: Option<String>,

    /// The trace that the command is a part of, as whoever calls it says it: W3C Trace Context.
    #[arg(long, global = true, env = "TRACEPARENT", hide = true)]
    pub traceparent: Option<String>,

    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  lockstep plan production --image notes:1.0.0      what would happen
  lockstep deploy production --image notes:1.0.0    make it so
  lockstep rollback production                      the last release that was verified good
  lockstep status production                        how things stand

Exit codes: 0 done · 1 failed and rolled back · 2 usage · 3 refused before anything started · 4 locked · 5 unreachable · 6 stuck · 130 interrupted";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Human,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make this machine ready to deploy: coordinator, agent and your credential
    #[command(
        after_help = "Examples:\n  lockstep up                      everything on this machine, as root\n  lockstep up --address 10.0.0.5   other hosts' nginx reaches its containers there\n  lockstep down                    ends both; applications go on serving"
    )]
    Up(UpArgs),
    /// End coordinator and agent on this machine; applications go on serving
    #[command(
        after_help = "Examples:\n  lockstep down            both end; lockstep up starts them again as they were\n  lockstep down --purge    also what they keep, after it was shown"
    )]
    Down(DownArgs),
    /// Show what a deployment would do; nothing happens
    #[command(
        after_help = "Examples:\n  lockstep plan production                       the tag of the commit at HEAD\n  lockstep plan production --image notes:1.0.0   its hash goes to: lockstep deploy --plan HASH"
    )]
    Plan(DeployArgs),
    /// Deploy a release
    #[command(
        after_help = "Examples:\n  lockstep deploy production --image notes:1.0.0\n  lockstep deploy production --image notes:1.0.0 --plan HASH    exactly the plan that was read, or nothing\n  lockstep deploy production --wait-lock 10m --detach           from CI; then: lockstep watch @last"
    )]
    Deploy(DeployArgs),
    /// Give the traffic back to an earlier release
    #[command(
        after_help = "Examples:\n  lockstep rollback production              to the last release that was verified good\n  lockstep rollback production --dry-run    what it would do, and nothing happens"
    )]
    Rollback(RollbackArgs),
    /// Unwind the open deployment
    #[command(
        after_help = "Examples:\n  lockstep status production    what a cancel would cost at this point\n  lockstep cancel production"
    )]
    Cancel { env: String },
    /// Get a stuck deployment to its end: says what that costs, and asks
    #[command(
        after_help = "Examples:\n  lockstep status production              what could not be taken back, and what each way out costs\n  lockstep resolve @open --retry          where the project has one environment\n  lockstep resolve dep_01J8 --unwind      by the beginning of its id: the rest is taken back, this stays owed\n  lockstep resolve dep_01J8 --skip s3     this is never taken back, and you answer for it"
    )]
    Resolve(ResolveArgs),
    /// How things stand
    #[command(
        after_help = "Examples:\n  lockstep status                     every environment\n  lockstep status notes/production    from any directory"
    )]
    Status { env: Option<String> },
    /// Earlier deployments, newest first
    #[command(
        after_help = "Examples:\n  lockstep history production --limit 50\n  lockstep history production --output json"
    )]
    History {
        env: String,
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// One deployment, whole
    #[command(
        after_help = "Examples:\n  lockstep show @last --env production\n  lockstep show dep_01J8    by the beginning of its id, from any directory"
    )]
    Show {
        dep: String,
        #[arg(long)]
        env: Option<String>,
    },
    /// Follow a deployment until it ends
    #[command(
        after_help = "Examples:\n  lockstep watch @open --env production\n  lockstep watch dep_01J8    Ctrl-C ends the watching and not the deployment"
    )]
    Watch {
        dep: String,
        #[arg(long)]
        env: Option<String>,
    },
    /// What the live release prints, or what a deployment did
    #[command(
        after_help = "Examples:\n  lockstep logs production --process worker --tail 20\n  lockstep logs production --deployment @last\n  lockstep logs production --deployment @last --step s4"
    )]
    Logs(LogsArgs),
    /// Who may deploy, and when
    #[command(
        after_help = "Examples:\n  lockstep lock freeze production --reason 'the fair opens at nine' --for 3h\n  lockstep lock thaw production"
    )]
    #[command(subcommand)]
    Lock(LockCommand),
    /// Who changed what, newest first
    #[command(after_help = "Examples:\n  lockstep audit production")]
    Audit { env: String },
    /// Secrets of an environment: names and fingerprints, never values
    #[command(
        after_help = "Examples:\n  lockstep secret diff production                  what the .env file would change: names only\n  lockstep secret set production API_KEY < key.txt"
    )]
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Environments
    #[command(
        after_help = "Examples:\n  lockstep env check production              whether it can be deployed as declared; nothing happens\n  lockstep env show production --effective   every value, and where in the file it stands"
    )]
    #[command(subcommand)]
    Env(EnvCommand),
    /// Hosts
    #[command(
        after_help = "Examples:\n  lockstep host list\n  lockstep host token --name app-1 --role app                 prints the line to paste on the host\n  lockstep host token --role app --cloud-init > user-data     for a machine that is made"
    )]
    #[command(subcommand)]
    Host(HostCommand),
    /// Registries: what lets hosts into them
    #[command(
        after_help = "Examples:\n  lockstep registry login ghcr.io --username anna < token    kept encrypted; hosts get it for a pull, and keep nothing\n  lockstep registry check                                    each app host proves that it is let in"
    )]
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Coordinators: who is alive and drives what, and tokens for more of them
    #[command(
        after_help = "Examples:\n  lockstep coordinator list\n  lockstep coordinator token --name c2    then, on its machine: lockstep-coordinator join"
    )]
    #[command(subcommand)]
    Coordinator(CoordinatorCommand),
    /// The root of all certificates: which one signs, and another in its place
    #[command(
        after_help = "Examples:\n  lockstep authority rotate    another root signs; hosts and coordinators move over by themselves\n  lockstep authority list      which roots are trusted, and who still needs the earlier one\n  lockstep authority retire    the earlier one is not trusted any more; nobody is cut off unasked"
    )]
    #[command(subcommand)]
    Authority(AuthorityCommand),
    /// Operators
    #[command(
        after_help = "Examples:\n  lockstep operator add ci --env notes/* --role deploy    prints a token that is good once"
    )]
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// The record in other forms
    #[command(after_help = "Examples:\n  lockstep state export production > deployment-state.json")]
    #[command(subcommand)]
    State(StateCommand),
    /// Write everything that the coordinator knows into one sealed file; the passphrase is read from standard input
    #[command(
        after_help = "Examples:\n  lockstep backup --to lockstep.backup < passphrase    restore puts it back, also into etcd"
    )]
    Backup {
        /// The file, which must not be there yet.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Put a backup back on this machine, where no coordinator runs; the passphrase is read from standard input
    #[command(
        after_help = "Examples:\n  lockstep restore lockstep.backup < passphrase                        into SQLite, in a directory without a record\n  lockstep restore lockstep.backup --directory DIR < passphrase    DIR has a coordinator.toml: where it says"
    )]
    Restore {
        file: PathBuf,
        /// The coordinator's directory.
        #[arg(long, value_name = "DIR", default_value = COORDINATOR_DIRECTORY)]
        directory: PathBuf,
    },
    /// What tells a driver from one that was deposed
    #[command(
        after_help = "Examples:\n  lockstep fence bump production    after etcd was put back from a snapshot of its own"
    )]
    #[command(subcommand)]
    Fence(FenceCommand),
    /// Become an operator with a one-time token, read from standard input
    #[command(after_help = "Examples:\n  lockstep login --coordinator deploy.example:7443 < token")]
    Login,
    /// What is wrong, and the command that mends it
    #[command(
        after_help = "Examples:\n  lockstep doctor               this machine, the credential, the coordinator\n  lockstep doctor production    and what a deployment there would need"
    )]
    Doctor { env: Option<String> },
    /// Print the JSON Schema of deployment.yml, for editors
    #[command(
        after_help = "Examples:\n  lockstep schema > deployment.schema.json\n\nAs the first line of deployment.yml, for editors:\n  # yaml-language-server: $schema=deployment.schema.json"
    )]
    Schema,
    /// Print a completion script for a shell
    #[command(
        after_help = "Examples:\n  lockstep completions bash > /etc/bash_completion.d/lockstep\n  lockstep completions zsh > ~/.zfunc/_lockstep"
    )]
    Completions { shell: clap_complete::Shell },
    /// Write manual pages, completion scripts and the reference of deployment.yml into a folder, for packages
    #[command(hide = true)]
    PackageFiles { directory: PathBuf },
}

impl Command {
    /// Whether its exit code says how something ended that it follows.
    pub fn reports_end(&self) -> bool {
        matches!(self, Self::Deploy(_) | Self::Rollback(_) | Self::Resolve(_) | Self::Watch { .. })
    }
}

/// Where `up` has the coordinator.
const COORDINATOR_DIRECTORY: &str = "/var/lib/lockstep/coordinator";

/// Where both services of this machine keep what is theirs.
const DIRECTORY: &str = "/var/lib/lockstep";

#[derive(Debug, Args)]
pub struct UpArgs {
    /// What this machine is for: app runs containers, lb is nginx, db makes snapshots and migrations.
    #[arg(long, alias = "role", value_delimiter = ',', value_name = "ROLES", default_value = "app,lb,db")]
    pub roles: Vec<HostRole>,
    /// The address at which load balancers reach this machine's containers.
    ///
    /// Containers' ports are bound to this address and to no other. Where nginx is on this machine too,
    /// the address of Docker's bridge is right, because nothing outside reaches it; it is what is taken when
    /// nothing is said. Where nginx is on another machine: this one's address in the private network.
    #[arg(long, value_name = "ADDR")]
    pub address: Option<IpAddr>,
    /// Where the coordinator listens; otherwise 127.0.0.1:7443, or where it did before.
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// What this host is called; otherwise the machine's own name.
    #[arg(long)]
    pub name: Option<String>,
    /// Where both keep what is theirs.
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
    pub directory: PathBuf,
    /// Start both as processes of their own, also where systemd would keep them.
    #[arg(long)]
    pub without_systemd: bool,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "a flag is there or not")]
pub struct DownArgs {
    /// Where both keep what is theirs.
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
    pub directory: PathBuf,
    /// Also remove their directories and the operator's credential, after showing what goes.
    #[arg(long)]
    pub purge: bool,
    /// Do not ask.
    #[arg(long, requires = "purge")]
    pub yes: bool,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "a flag is there or not")]
pub struct DeployArgs {
    pub env: String,
    /// The image, as the host's Docker knows it; otherwise the tag of the commit at HEAD.
    #[arg(long)]
    pub image: Option<String>,
    /// Run exactly the plan with this hash, or nothing.
    #[arg(long, value_name = "HASH")]
    pub plan: Option<PlanHash>,
    /// The same as `plan`.
    #[arg(long)]
    pub dry_run: bool,
    /// Wait for so long while somebody else deploys.
    #[arg(long, value_name = "DURATION")]
    pub wait_lock: Option<String>,
    /// Do not follow the deployment.
    #[arg(long)]
    pub detach: bool,
    /// Deploy from a branch that is not the environment's.
    #[arg(long)]
    pub allow_branch: bool,
    /// Replace the site of nginx even where somebody changed it by hand; `doctor` shows what would go.
    #[arg(long)]
    pub overwrite_site: bool,
    /// The commit, where the image has no label that says it.
    #[arg(long)]
    pub commit: Option<String>,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "a flag is there or not")]
pub struct RollbackArgs {
    pub env: String,
    /// The deployment to go back to; otherwise the last that was verified good.
    #[arg(long, value_name = "DEP")]
    pub to: Option<String>,
    /// Show the plan; nothing happens.
    #[arg(long)]
    pub dry_run: bool,
    /// Replace the site of nginx even where somebody changed it by hand; `doctor` shows what would go.
    #[arg(long)]
    pub overwrite_site: bool,
}

#[derive(Debug, Args)]
pub struct ResolveArgs {
    pub dep: String,
    #[command(flatten)]
    pub way: ResolutionArgs,
    /// The environment that @open and @last are of.
    #[arg(long)]
    pub env: Option<String>,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
#[expect(clippy::struct_excessive_bools, reason = "a flag is there or not")]
pub struct ResolutionArgs {
    /// Try the undo that failed again.
    #[arg(long)]
    pub retry: bool,
    /// Take the rest back; what failed is owed by its host, and done before that is deployed to again.
    #[arg(long)]
    pub unwind: bool,
    /// Never take this step back; refused where the plan would break a rule without it.
    #[arg(long, value_name = "STEP")]
    pub skip: Option<StepId>,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    pub env: String,
    /// A deployment's log instead of the live release's output.
    #[arg(long, value_name = "DEP")]
    pub deployment: Option<String>,
    /// One step of that deployment.
    #[arg(long, value_name = "STEP")]
    pub step: Option<String>,
    #[arg(long)]
    pub process: Option<String>,
    #[arg(long, default_value_t = 100)]
    pub tail: u32,
    /// Go on as lines come.
    #[arg(long, short)]
    pub follow: bool,
}

#[derive(Debug, Subcommand)]
pub enum LockCommand {
    /// Who has it, since when, until when
    Status { env: String },
    /// No deployments until the time is over
    Freeze {
        env: String,
        #[arg(long)]
        reason: String,
        /// As in 2h or 3d.
        #[arg(long, value_name = "DURATION")]
        r#for: String,
    },
    /// Deployments again
    Thaw { env: String },
}

#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Make the environment's .env file the newest version
    Import { env: String },
    /// Set one, read from standard input
    Set { env: String, name: String },
    /// Names and fingerprints of the newest version
    List { env: String },
    /// What an import would change
    Diff { env: String },
}

#[derive(Debug, Subcommand)]
pub enum EnvCommand {
    /// Every environment, and what is live there
    List,
    /// The declaration as recorded
    Show {
        env: String,
        /// Instead: what deployment.yml here comes to, and where each value stands.
        #[arg(long)]
        effective: bool,
    },
    /// Check deployment.yml and the .env file; nothing happens
    Check { env: String },
    /// Forget an environment that serves nobody; refused while it serves, or may serve
    #[command(
        after_help = "Examples:\n  lockstep env remove staging              its declaration, ports and pending undos are forgotten; history and secrets stay\n  lockstep env remove staging --abandon    also while it serves: containers and nginx sites go on"
    )]
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "a flag is there or not")]
pub struct RemoveArgs {
    pub env: String,
    /// Remove it although it serves, or a host does not say what runs there.
    ///
    /// What runs goes on, and nothing manages it: containers, nginx sites and volumes stay on the hosts until somebody
    /// removes them by hand; no rollback, no health checks, no logs; pending undos never happen; the ports may be
    /// given to other environments while containers still listen on them. An open deployment is cancelled first.
    #[arg(long)]
    pub abandon: bool,
    /// Do not ask.
    #[arg(long, requires = "abandon")]
    pub yes: bool,
}

#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// Every host: what it is for, how it is, and when it was seen
    List,
    /// A one-time token with which a host joins, in the one line to paste there
    Token {
        #[arg(long)]
        name: Option<String>,
        /// app, lb, db; otherwise all.
        #[arg(long = "role", alias = "roles", value_name = "ROLES", value_delimiter = ',')]
        roles: Vec<HostRole>,
        /// Print user data for a machine that is made: it installs the package lockstep-agent, and joins.
        #[arg(long)]
        cloud_init: bool,
    },
    /// What is live runs on one more host, which gets its share of the traffic
    #[command(
        after_help = "Examples:\n  lockstep host add production app-3 --dry-run    the plan, and the line to commit\n  lockstep host add production app-3              also for one that was drained"
    )]
    Add(HostChangeArgs),
    /// No traffic for a host, and nothing of what is live runs there; it stays declared, also if it does not answer
    #[command(
        after_help = "Examples:\n  lockstep host drain production app-3    lockstep host add brings it back"
    )]
    Drain(HostChangeArgs),
    /// Drain a host, and take it out of the environment's declaration
    #[command(after_help = "Examples:\n  lockstep host remove production app-3")]
    Remove(HostChangeArgs),
    /// Forget a host that no environment names any more; its certificate is not taken any more
    Forget { name: String },
}

#[derive(Debug, Args)]
pub struct HostChangeArgs {
    pub env: String,
    pub host: String,
    /// Show the plan; nothing happens.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Keep a password or a token, read from standard input, with which hosts pull
    Login {
        /// What stands before the first slash of its images: ghcr.io, 10.0.0.5:5000; docker.io.
        registry: String,
        /// Otherwise `token`, for registries that look at the token alone.
        #[arg(long)]
        username: Option<String>,
    },
    /// Registries and users, never passwords
    List,
    /// Have every app host prove that it is let in
    Check {
        /// Otherwise all that somebody has logged in to.
        registry: Option<String>,
    },
    /// Forget a password or a token
    Logout { registry: String },
}

#[derive(Debug, Subcommand)]
pub enum FenceCommand {
    /// Raise the epoch above what any host has seen; whoever drives stands down, and another goes on
    Bump { env: String },
}

#[derive(Debug, Subcommand)]
pub enum CoordinatorCommand {
    /// Every coordinator: whether it is alive, the hosts that are connected to it, what it drives
    List,
    /// A one-time token with which a coordinator joins; the record must be in etcd
    Token {
        #[arg(long)]
        name: Option<String>,
    },
    /// Take a coordinator's authority from it
    Remove { name: String },
}

#[derive(Debug, Subcommand)]
pub enum AuthorityCommand {
    /// The roots that are trusted, and who has only certificates of the earlier one
    List,
    /// Have another root sign; the one before is trusted beside it until it is retired
    Rotate,
    /// Take the trust from the earlier root; refused while a host or a coordinator would be cut off
    Retire {
        /// Cut them off; they join again.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// A one-time token for a new operator
    Add {
        name: String,
        /// `*`, `<app>/*` or `<app>/<env>`.
        #[arg(long, default_value = "*")]
        env: String,
        /// read, deploy or admin.
        #[arg(long, default_value = "deploy")]
        role: String,
    },
    /// Every operator, and until when the certificate is good
    List,
    /// Withdraw an operator's certificate and tokens at once
    Revoke { name: String },
}

#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// The record as deployment-state.json
    Export { env: String },
}
