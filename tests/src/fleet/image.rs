//! The images of hosts: Debian by debootstrap, fresh or with what hosts of all roles need, none of it enabled.
//!
//! `SUITE=trixie` in the environment makes them of Debian 13; Debian 12 is the default. An image is made once; its tag is
//! the hash of its recipe.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use lockstep_core::id::Digest;

use crate::bed::program::run;
use crate::bed::server::docker::Docker;

/// A release of Debian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Suite {
    Bookworm,
    Trixie,
}

impl Suite {
    fn from_environment() -> Result<Self> {
        match env::var("SUITE").as_deref() {
            Err(_) | Ok("bookworm") => Ok(Self::Bookworm),
            Ok("trixie") => Ok(Self::Trixie),
            Ok(other) => bail!("SUITE is {other:?}, and must be bookworm or trixie"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// Docker, which is two packages in Debian 13.
    fn docker(self) -> &'static str {
        match self {
            Self::Bookworm => "docker.io",
            Self::Trixie => "docker.io,docker-cli",
        }
    }

    /// What process 1 is started with.
    fn boot_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Bookworm => &[],
            // systemd 256 and 257 boot on control groups of version 1 only if they are told to; on version 2 this
            // changes nothing. (NEWS of systemd 256)
            Self::Trixie => &["SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"],
        }
    }
}

/// What is installed in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// What Debian's own installer leaves on a machine, as far as a container needs it.
    Fresh,
    /// Everything that the hosts of a fleet run beside Lockstep.
    Services,
}

/// An image, and how it is booted.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) tag: String,
    pub(super) boot_arguments: &'static [&'static str],
}

const MINIMUM: &str = "systemd,systemd-sysv,dbus,iproute2,procps,ca-certificates";

/// What hosts of all roles run, beside Docker.
const SERVICES: &str = "man-db,bash-completion,iptables,nginx,postgresql,etcd-server,etcd-client,faketime";

/// Debian 13's Docker starts no container where `/proc/sys` is read-only, as it is in a container, unless it may leave
/// IPv6 as it is.
const FINISH: &str = "mkdir /etc/systemd/system/docker.service.d
echo '[Service]
Environment=DOCKER_ALLOW_IPV6_ON_IPV4_INTERFACE=1' > /etc/systemd/system/docker.service.d/nested.conf
apt-get clean
rm -f /etc/machine-id && touch /etc/machine-id";

/// A service runs where its role is. Nothing of the package lists is needed.
const FINISH_SERVICES: &str =
    "systemctl disable --quiet docker.service docker.socket containerd.service nginx.service \
                      postgresql.service etcd.service
rm -rf /var/lib/apt/lists/*";

/// Nobody answers apt's questions.
const FINISH_FRESH: &str = "echo 'APT::Get::Assume-Yes true;' > /etc/apt/apt.conf.d/90assume-yes";

/// The image of such hosts; it is made if it is missing.
pub(super) fn ensure(content: Content, tell: &mut dyn FnMut(&str)) -> Result<Image> {
    let suite = Suite::from_environment()?;
    let (packages, finish) = match content {
        Content::Fresh => (MINIMUM.to_owned(), FINISH_FRESH),
        Content::Services => (format!("{MINIMUM},{SERVICES},{}", suite.docker()), FINISH_SERVICES),
    };
    let finish = format!("{FINISH}\n{finish}");
    let boot_arguments = suite.boot_arguments();
    let suite = suite.name();
    let docker = Docker::check()?;
    let recipe = Digest::of_content(format!("{suite}\n{packages}\n{finish}").as_bytes());
    let tag = format!("lockstep-fleet:{}", &recipe.hex()[..12]);
    let image = Image { tag: tag.clone(), boot_arguments };
    if !docker.docker(["images", "--quiet", &tag])?.is_empty() {
        return Ok(image);
    }
    tell("makes the image of the hosts, once: about two minutes");
    let place = fleet_directory()?;
    let root = tempfile::tempdir_in(&place)?;
    // The folder becomes the host's root: what is not root there goes through it.
    run(Command::new("chmod").arg("0755").arg(root.path()))?;
    run(Command::new("debootstrap")
        .args(["--variant=minbase", &format!("--include={packages}"), suite])
        .arg(root.path()))
    .context("debootstrap does not make a Debian: it needs root, and Debian's packages within reach")?;
    run(Command::new("chroot").arg(root.path()).args(["bash", "-euc", &finish]))?;
    let import = "tar -C \"$0\" -c . | docker import - \"$1\"";
    run(Command::new("bash").args(["-euo", "pipefail", "-c", import]).arg(root.path()).arg(&tag))?;
    Ok(image)
}

/// Where fleets keep what is outside of their hosts.
pub(super) fn fleet_directory() -> Result<PathBuf> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target").join("fleet");
    fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    Ok(place)
}
