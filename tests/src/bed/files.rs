//! Files and directories with the owners and permissions that a test needs: PostgreSQL refuses to run as root, and
//! nginx's workers do not run as root.

use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::bed::program::run;

const ENTER: u32 = 0o001;

pub fn we_are_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// A command that runs as that user; as ourselves where we are not root.
pub fn command_as(user: &str, program: &Path) -> Command {
    if !we_are_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={user}"))
        .arg(format!("--regid={user}"))
        .args(["--init-groups", "--"])
        .arg(program);
    command
}

/// Temporary directories are private to root, so those above this one are
/// opened for entering (not for reading); any other is left as it is.
pub fn let_enter(user: &str, directory: &Path) -> anyhow::Result<()> {
    if !we_are_root() {
        return Ok(());
    }
    let temporary = env::temp_dir();
    let mine = directory.ancestors().take_while(|above| above.starts_with(&temporary) && *above != temporary);
    for above in mine {
        let mode = fs::metadata(above).with_context(|| format!("cannot look at {}", above.display()))?.mode();
        if mode & ENTER == 0 {
            fs::set_permissions(above, fs::Permissions::from_mode(mode | ENTER))
                .with_context(|| format!("cannot open {}", above.display()))?;
        }
    }
    if run(command_as(user, Path::new("/usr/bin/test")).arg("-x").arg(directory)).is_err() {
        bail!("the user {user} cannot enter {}: use one under {}", directory.display(), temporary.display());
    }
    Ok(())
}

pub fn give_to(user: &str, path: &Path) -> anyhow::Result<()> {
    if we_are_root() {
        run(Command::new("chown").arg("-R").arg(format!("{user}:")).arg(path))?;
    }
    Ok(())
}

/// A file that only its owner reads.
///
/// # Errors
/// When it cannot be written.
pub fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
