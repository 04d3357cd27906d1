//! The commands that start and end deployments.

use clap::Args;
use lockstep_core::id::StepId;
use lockstep_core::plan::PlanHash;
use lockstep_core::record::grant::WideningHash;

use super::{DEP, ENV};

#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "a flag is there or not")]
pub struct DeployArgs {
    #[arg(help = ENV)]
    pub env: String,
    /// Image to deploy. Default: the tag of the commit at HEAD.
    #[arg(long)]
    pub image: Option<String>,
    /// Run exactly the plan with this hash; refuse any other.
    #[arg(long, value_name = "HASH")]
    pub plan: Option<PlanHash>,
    /// Grant what the plan with this hash of a grant shows. For administrators of all environments.
    #[arg(long, value_name = "HASH")]
    pub grant: Option<WideningHash>,
    /// Show the plan without running it.
    #[arg(long)]
    pub dry_run: bool,
    /// Wait up to this long while the environment is locked, as in 10m.
    #[arg(long, value_name = "DURATION")]
    pub wait_lock: Option<String>,
    /// Do not follow the deployment.
    #[arg(long)]
    pub detach: bool,
    /// Branch of what is deployed. Default: that of this checkout; where it is on none, as in CI, that of the CI system.
    #[arg(long, value_name = "NAME")]
    pub branch: Option<String>,
    /// Deploy from a branch other than the environment's.
    #[arg(long)]
    pub allow_branch: bool,
    /// Overwrite the nginx site even if it was changed by hand. `lockstep doctor` shows the changes.
    #[arg(long)]
    pub overwrite_site: bool,
    /// Commit of the image, if no label of the image names it.
    #[arg(long)]
    pub commit: Option<String>,
}

impl DeployArgs {
    /// Nothing but an environment.
    #[cfg(test)]
    pub fn of(env: &str) -> Self {
        Self {
            env: env.to_owned(),
            image: None,
            plan: None,
            grant: None,
            dry_run: false,
            wait_lock: None,
            detach: false,
            branch: None,
            allow_branch: false,
            overwrite_site: false,
            commit: None,
        }
    }

    /// The command with these arguments, to be pasted.
    pub fn command_line(&self, verb: &str) -> String {
        let Self { env, image, plan, grant, dry_run, wait_lock, detach, .. } = self;
        let Self { branch, allow_branch, overwrite_site, commit, .. } = self;
        let value = |flag: &str, value: Option<&String>| value.map(|value| format!(" {flag} {value}"));
        let flag = |flag: &str, is_set: bool| is_set.then(|| format!(" {flag}"));
        let plan = plan.as_ref().map(ToString::to_string);
        let grant = grant.as_ref().map(ToString::to_string);
        let words = [
            value("--image", image.as_ref()),
            value("--commit", commit.as_ref()),
            value("--branch", branch.as_ref()),
            flag("--allow-branch", *allow_branch),
            flag("--overwrite-site", *overwrite_site),
            flag("--dry-run", *dry_run),
            flag("--detach", *detach),
            value("--plan", plan.as_ref()),
            value("--grant", grant.as_ref()),
            value("--wait-lock", wait_lock.as_ref()),
        ];
        format!("lockstep {verb} {env}{}", words.into_iter().flatten().collect::<String>())
    }
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "a flag is there or not")]
pub struct RollbackArgs {
    #[arg(help = ENV)]
    pub env: String,
    /// Deployment to go back to. Default: the last that was verified good.
    #[arg(long, value_name = "DEP")]
    pub to: Option<String>,
    /// Show the plan without running it.
    #[arg(long)]
    pub dry_run: bool,
    /// Overwrite the nginx site even if it was changed by hand. `lockstep doctor` shows the changes.
    #[arg(long)]
    pub overwrite_site: bool,
}

#[derive(Debug, Args)]
pub struct ResolveArgs {
    #[arg(help = DEP)]
    pub dep: String,
    #[command(flatten)]
    pub resolution: ResolutionArgs,
    /// Environment of @open and @last.
    #[arg(long)]
    pub env: Option<String>,
    /// Do not ask for confirmation.
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
#[expect(clippy::struct_excessive_bools, reason = "a flag is there or not")]
pub struct ResolutionArgs {
    /// Run the failed undo again.
    #[arg(long)]
    pub retry: bool,
    /// Revert the other steps. The failed undo stays pending and runs before its host is used again.
    #[arg(long)]
    pub unwind: bool,
    /// Never undo this step. Refused if the plan would break a rule without the undo.
    #[arg(long, value_name = "STEP")]
    pub skip: Option<StepId>,
}
