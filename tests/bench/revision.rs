//! The programs of another revision, beside ours: built in a work tree of their own, the same way.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use lockstep_tests::bed::program::run;

/// A revision whose programs are built.
pub(crate) struct Revision {
    /// The first digits of its commit.
    pub(crate) commit: String,
    pub(crate) programs: PathBuf,
}

/// Builds the release programs of `revision` below `target`, or finds them there.
///
/// # Errors
/// When there is no such revision, or it cannot be built.
pub(crate) fn build(
    repository: &Path,
    target: &Path,
    revision: &str,
    say: &mut dyn FnMut(&str),
) -> Result<Revision> {
    let git = || {
        let mut git = Command::new("git");
        git.arg("-C").arg(repository);
        git
    };
    let commit = format!("{revision}^{{commit}}");
    let commit = run(git().args(["rev-parse", "--verify", "--short=12", "--end-of-options", &commit]))
        .with_context(|| format!("{revision} is no revision of this repository"))?;
    let tree = target.join(&commit);
    if !tree.join("Cargo.toml").is_file() {
        // One whose folder somebody removed is still known.
        run(git().args(["worktree", "prune"]))?;
        run(git().args(["worktree", "add", "--quiet", "--detach"]).arg(&tree).arg(&commit))?;
    }
    let built = tree.join("target");
    say(&format!("· building the programs of {commit} in {}", tree.display()));
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--release", "--workspace", "--bins", "--target-dir"]).arg(&built);
    run(cargo.current_dir(&tree)).with_context(|| format!("{commit} cannot be built"))?;
    Ok(Revision { commit, programs: built.join("release") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_revision_is_said_before_anything_is_built() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = tempfile::tempdir().unwrap();
        let failed = build(repository, folder.path(), "no-such-revision", &mut |_| {});
        assert!(failed.is_err_and(|error| error.to_string().contains("no-such-revision is no revision")));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
