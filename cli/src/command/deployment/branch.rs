//! The branch that is deployed: what the command line says, else that of the checkout, else what the CI system says it
//! has checked out.

use super::git::git;
use crate::context::Context;

/// What `git` calls a checkout that is on no branch.
const DETACHED: &str = "HEAD";

/// Variables in which CI systems say the branch of a checkout that is on none: GitLab and Woodpecker, Buildkite, CircleCI,
/// Bitbucket, Drone, Travis, Azure.
const BRANCH_VARIABLES: [&str; 7] = [
    "CI_COMMIT_BRANCH",
    "BUILDKITE_BRANCH",
    "CIRCLE_BRANCH",
    "BITBUCKET_BRANCH",
    "DRONE_BRANCH",
    "TRAVIS_BRANCH",
    "BUILD_SOURCEBRANCHNAME",
];

/// `None` if there is no checkout and nothing says it; `HEAD` if there is one, on no branch that anybody names.
pub(super) fn deployed_branch(context: &Context, said: Option<&str>) -> Option<String> {
    let checkout = git(context, &["rev-parse", "--abbrev-ref", "HEAD"]);
    choose(said, checkout, |variable| std::env::var(variable).ok())
}

fn choose(
    said: Option<&str>,
    checkout: Option<String>,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    match (said, checkout) {
        (Some(said), _) => Some(said.to_owned()),
        (None, Some(branch)) if branch != DETACHED => Some(branch),
        (None, checkout) => in_ci(variable).or(checkout),
    }
}

fn in_ci(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    // On GitHub the same variable has the name of a tag.
    let is_github_branch = variable("GITHUB_REF_TYPE").is_some_and(|kind| kind == "branch");
    let github = is_github_branch.then(|| variable("GITHUB_REF_NAME")).flatten();
    github.or_else(|| BRANCH_VARIABLES.iter().find_map(|name| variable(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(said: Option<&str>, checkout: Option<&str>, variables: &[(&str, &str)]) -> Option<String> {
        let variable = |name: &str| {
            variables.iter().find(|(there, _)| *there == name).map(|(_, value)| (*value).to_owned())
        };
        choose(said, checkout.map(ToOwned::to_owned), variable)
    }

    #[test]
    fn a_checkout_on_no_branch_is_on_that_of_the_ci_system() {
        let github = [("GITHUB_REF_TYPE", "branch"), ("GITHUB_REF_NAME", "main")];
        assert_eq!(chosen(None, Some("HEAD"), &github).as_deref(), Some("main"));
        assert_eq!(chosen(None, Some("HEAD"), &[("CI_COMMIT_BRANCH", "main")]).as_deref(), Some("main"));
        assert_eq!(chosen(None, None, &[("CIRCLE_BRANCH", "main")]).as_deref(), Some("main"));
        let tag = [("GITHUB_REF_TYPE", "tag"), ("GITHUB_REF_NAME", "v1"), ("CI_COMMIT_BRANCH", "")];
        assert_eq!(chosen(None, Some("HEAD"), &tag).as_deref(), Some("HEAD"));
        assert_eq!(chosen(None, None, &[]), None);
    }

    #[test]
    fn what_is_said_or_checked_out_comes_first() {
        let github = [("GITHUB_REF_TYPE", "branch"), ("GITHUB_REF_NAME", "main")];
        assert_eq!(chosen(None, Some("feature"), &github).as_deref(), Some("feature"));
        assert_eq!(chosen(Some("release"), Some("feature"), &github).as_deref(), Some("release"));
    }
}
