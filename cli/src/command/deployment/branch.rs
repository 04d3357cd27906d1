//! The branch that is deployed: what the command line says, else that of the checkout, else what the CI system says it
//! has checked out.

use lockstep_core::plan::operation::DETACHED;

use super::git::git;
use crate::context::Context;

/// A variable in which a CI system says the branch that it has checked out, where another one has this value: elsewhere it
/// has the name of a tag, or the branch that a pull request is for.
const BRANCH_VARIABLES: [(&str, (&str, &str)); 7] = [
    ("GITHUB_REF_NAME", ("GITHUB_REF_TYPE", "branch")),
    ("CI_COMMIT_BRANCH", ("GITLAB_CI", "true")),
    ("CIRCLE_BRANCH", ("CIRCLECI", "true")),
    ("BITBUCKET_BRANCH", ("CI", "true")),
    ("BUILDKITE_BRANCH", ("BUILDKITE_PULL_REQUEST", "false")),
    ("TRAVIS_BRANCH", ("TRAVIS_PULL_REQUEST", "false")),
    ("DRONE_BRANCH", ("DRONE_BUILD_EVENT", "push")),
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
    BRANCH_VARIABLES.iter().find_map(|(branch, (where_this, is))| {
        variable(where_this).filter(|value| value == is)?;
        variable(branch).filter(|branch| !branch.is_empty())
    })
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
        assert_eq!(
            chosen(None, Some("HEAD"), &[("GITLAB_CI", "true"), ("CI_COMMIT_BRANCH", "main")]).as_deref(),
            Some("main")
        );
        assert_eq!(
            chosen(None, None, &[("CIRCLECI", "true"), ("CIRCLE_BRANCH", "main")]).as_deref(),
            Some("main")
        );
    }

    /// Their variables have the name of the tag, or the branch that the pull request is for.
    #[test]
    fn tags_and_pull_requests_are_on_no_branch() {
        let tag = [("GITHUB_REF_TYPE", "tag"), ("GITHUB_REF_NAME", "v1")];
        assert_eq!(chosen(None, Some("HEAD"), &tag).as_deref(), Some("HEAD"));
        let tag = [("GITLAB_CI", "true"), ("CI_COMMIT_BRANCH", "")];
        assert_eq!(chosen(None, Some("HEAD"), &tag).as_deref(), Some("HEAD"));
        let request = [("DRONE_BUILD_EVENT", "pull_request"), ("DRONE_BRANCH", "main")];
        assert_eq!(chosen(None, Some("HEAD"), &request).as_deref(), Some("HEAD"));
        let request = [("TRAVIS_PULL_REQUEST", "12"), ("TRAVIS_BRANCH", "main")];
        assert_eq!(chosen(None, Some("HEAD"), &request).as_deref(), Some("HEAD"));
        assert_eq!(chosen(None, None, &[]), None);
    }

    #[test]
    fn what_is_said_or_checked_out_comes_first() {
        let github = [("GITHUB_REF_TYPE", "branch"), ("GITHUB_REF_NAME", "main")];
        assert_eq!(chosen(None, Some("feature"), &github).as_deref(), Some("feature"));
        assert_eq!(chosen(Some("release"), Some("feature"), &github).as_deref(), Some("release"));
    }
}
