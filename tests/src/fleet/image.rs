//! The image of every host: Debian by debootstrap, with what hosts of all roles need, none of it enabled.
//!
//! It is made once; its tag is the hash of its recipe.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use lockstep_core::id::Digest;

use crate::bed::program::run;
use crate::bed::server::docker::Docker;

const SUITE: &str = "bookworm";

const PACKAGES: &str = "systemd,systemd-sysv,dbus,iproute2,iptables,procps,ca-certificates,man-db,bash-completion,\
                        nginx,postgresql,etcd-server,etcd-client,docker.io,faketime";

/// A service runs where its role is. Nothing of the package lists is needed.
const FINISH: &str =
    "systemctl disable --quiet docker.service docker.socket containerd.service nginx.service \
                      postgresql.service etcd.service
rm -rf /var/cache/apt/archives/*.deb /var/lib/apt/lists/*
rm -f /etc/machine-id && touch /etc/machine-id";

/// The image's tag; it is made where it is missing.
pub(super) fn ensure(tell: &mut dyn FnMut(&str)) -> Result<String> {
    let docker = Docker::check()?;
    let recipe = Digest::of_content(format!("{SUITE}\n{PACKAGES}\n{FINISH}").as_bytes());
    let tag = format!("lockstep-fleet:{}", &recipe.hex()[..12]);
    if !docker.docker(["images", "--quiet", &tag])?.is_empty() {
        return Ok(tag);
    }
    tell("makes the image of the hosts, once: about three minutes");
    let place = fleet_directory()?;
    let root = tempfile::tempdir_in(&place)?;
    // The folder becomes the host's root: what is not root there goes through it.
    run(Command::new("chmod").arg("0755").arg(root.path()))?;
    run(Command::new("debootstrap")
        .args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE])
        .arg(root.path()))
    .context("debootstrap does not make a Debian: it needs root, and Debian's packages within reach")?;
    run(Command::new("chroot").arg(root.path()).args(["bash", "-euc", FINISH]))?;
    let import = "tar -C \"$0\" -c . | docker import - \"$1\"";
    run(Command::new("bash").args(["-euo", "pipefail", "-c", import]).arg(root.path()).arg(&tag))?;
    Ok(tag)
}

/// Where fleets keep what is outside of their hosts.
pub(super) fn fleet_directory() -> Result<PathBuf> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target").join("fleet");
    fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    Ok(place)
}
