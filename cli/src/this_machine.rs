//! The coordinator that `lockstep up` has set up on this machine, as far as every user can see it.

use std::net::SocketAddr;
use std::path::Path;

use crate::args::DIRECTORY;

/// The file of `lockstep up` with the address on which the coordinator listens.
const LISTEN: &str = "listen";

/// What the hints of a command depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThisMachine {
    listen: Option<String>,
    user: User,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    Root,
    Other,
}

impl ThisMachine {
    pub fn look() -> Self {
        let user = if rustix::process::geteuid().is_root() { User::Root } else { User::Other };
        Self::with_directory(Path::new(DIRECTORY), user)
    }

    fn with_directory(directory: &Path, user: User) -> Self {
        let listen = std::fs::read_to_string(directory.join(LISTEN)).ok();
        Self { listen: listen.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()), user }
    }

    /// Where the coordinator of this machine listens; `None` if `lockstep up` has set none up in its usual directory.
    pub fn listen(&self) -> Option<&str> {
        self.listen.as_deref()
    }

    /// Whether the coordinator at `address` is the one of this machine.
    pub fn has_coordinator_at(&self, address: &str) -> bool {
        let Some(listen) = &self.listen else { return false };
        let port = |text: &str| text.parse::<SocketAddr>().ok().map(|there| there.port());
        listen == address || (is_of_this_machine(address) && port(listen) == port(address))
    }

    /// The command that starts coordinator and agent of this machine.
    pub fn up(&self) -> &'static str {
        match self.user {
            User::Root => "lockstep up",
            User::Other => "sudo lockstep up",
        }
    }

    /// The command that lets this user in at the coordinator of this machine; `None` if there is none.
    pub fn login(&self) -> Option<&'static str> {
        self.listen.as_ref().map(|_| match self.user {
            User::Root => "lockstep up",
            User::Other => "sudo lockstep operator add $USER --role admin | head -1 | sh",
        })
    }
}

/// Whether only this machine reaches this `host:port`.
pub fn is_of_this_machine(address: &str) -> bool {
    let is_own = |there: SocketAddr| there.ip().is_loopback() || there.ip().is_unspecified();
    address.parse().map_or(address.starts_with("localhost:"), is_own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(listen: Option<&str>, user: User) -> ThisMachine {
        let folder = tempfile::tempdir().unwrap();
        if let Some(listen) = listen {
            std::fs::write(folder.path().join(LISTEN), format!("{listen}\n")).unwrap();
        }
        ThisMachine::with_directory(folder.path(), user)
    }

    #[test]
    fn an_address_that_only_this_machine_has_is_known() {
        for address in ["127.0.0.1:7443", "[::1]:7443", "localhost:7443", "0.0.0.0:7443", "[::]:7443"] {
            assert!(is_of_this_machine(address), "{address}");
        }
        for address in ["10.0.0.5:7443", "deploy.example:7443"] {
            assert!(!is_of_this_machine(address), "{address}");
        }
    }

    #[test]
    fn the_coordinator_of_this_machine_is_known_by_each_of_its_addresses() {
        let here = machine(Some("10.0.0.1:7443"), User::Root);
        for address in ["10.0.0.1:7443", "127.0.0.1:7443", "0.0.0.0:7443"] {
            assert!(here.has_coordinator_at(address), "{address}");
        }
        for address in ["10.0.0.2:7443", "127.0.0.1:8443", "deploy.example:7443"] {
            assert!(!here.has_coordinator_at(address), "{address}");
        }
        assert!(!machine(None, User::Root).has_coordinator_at("127.0.0.1:7443"));
    }

    #[test]
    fn a_command_that_needs_root_says_so_to_another_user() {
        assert_eq!(machine(None, User::Root).up(), "lockstep up");
        assert_eq!(machine(None, User::Other).up(), "sudo lockstep up");
        assert_eq!(machine(None, User::Other).login(), None);
        let login = machine(Some("127.0.0.1:7443"), User::Other).login().unwrap();
        assert!(login.starts_with("sudo lockstep operator add $USER "), "{login}");
    }
}
