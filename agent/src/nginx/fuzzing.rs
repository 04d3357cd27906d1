//! The readers of nginx's files, for their fuzz targets in `tests/fuzz`. Only a build with `cfg(fuzzing)` has this module.

use std::io;
use std::path::Path;

use lockstep_core::id::DeploymentId;
use lockstep_core::run::journal::TrafficCount;

use super::{access_log, directives, site, site_diff};

/// The name of every directive in `text`, and in how many blocks it stands.
pub fn directives(text: &str) -> Vec<(usize, &str)> {
    directives::directives(text).collect()
}

/// Whether a site of this text logs to `access_log`.
pub fn has_access_log(text: &str, access_log: &Path) -> bool {
    site::has_access_log(text, access_log)
}

/// What was changed by hand from `installed` to `there`, as an operator is shown it.
pub fn shown_change(installed: Option<&str>, there: &str, secret: Option<&str>) -> String {
    site_diff::change(installed, there, secret).diff
}

/// The requests in the access log `log` since the first count of `deployment`.
///
/// # Errors
/// When a file cannot be read or written.
pub fn count_requests(
    log: &Path,
    progress: &Path,
    deployment: &DeploymentId,
) -> io::Result<Option<TrafficCount>> {
    access_log::count(log, progress, deployment)
}
