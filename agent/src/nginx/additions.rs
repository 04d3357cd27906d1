//! The folder for an administrator's additions to a site. It is created with a README and is the administrator's from
//! then on. It is removed with the site only if nobody has put anything into it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lockstep_runtime::durable;

/// Not `*.conf`, so that nginx does not read it.
const README: &str = "README";

const TEXT: &str = "\
Additions of your own to the nginx site of this environment.

Every file here whose name ends in .conf is included at the end of the site's server { } block, over which they
have their say: other locations, access rules, headers. For example, in maintenance.conf:

    location /downloads/ {
        root /srv;
    }

Lockstep makes this folder and this file once, and changes or removes neither them nor anything else here. What is
written into the site's own file instead is seen as a change by hand: lockstep doctor shows it.

Try them with nginx -t, and let nginx read them with systemctl reload nginx.
";

/// Makes the folder where there is none.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    durable::write(&folder.join(README), TEXT, 0o644)
}

/// The files that the site includes.
pub(super) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "conf") {
            files.push(path);
        }
    }
    Ok(files)
}

/// Removes the folder as it was made; with anything else in it, it stays.
pub(super) fn tidy(folder: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    let is_only_ours = entries.iter().all(|entry| entry.file_name() == README);
    let readme = folder.join(README);
    if !is_only_ours || durable::read(&readme)?.is_some_and(|text| text != TEXT) {
        return Ok(());
    }
    durable::remove(&readme)?;
    fs::remove_dir(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_made_once_and_kept_with_what_is_put_into_it() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("lockstep-notes-production.d");
        make(&folder).unwrap();
        assert!(fs::read_to_string(folder.join(README)).unwrap().contains("ends in .conf"));
        tidy(&folder).unwrap();
        assert!(!folder.exists(), "as it was made, it goes with the site");

        make(&folder).unwrap();
        fs::write(folder.join(README), "ours").unwrap();
        make(&folder).unwrap();
        tidy(&folder).unwrap();
        assert_eq!(fs::read_to_string(folder.join(README)).unwrap(), "ours");

        fs::remove_file(folder.join(README)).unwrap();
        fs::write(folder.join("own.conf"), "# ours").unwrap();
        make(&folder).unwrap();
        assert!(!folder.join(README).exists(), "it was taken out, and does not come back");
        tidy(&folder).unwrap();
        assert!(folder.join("own.conf").exists());
    }
}
