//! The TCP sockets of this host, from the kernel's tables, and the programs that they belong to.

use std::net::IpAddr;

use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::{self, FDTarget, Process};
use procfs::{ProcError, ProcResult};

/// A socket that waits for connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    pub port: u16,
    inode: u64,
    user: u32,
}

/// All of them, of IPv4 and IPv6.
///
/// # Errors
/// When a table cannot be read.
pub fn tcp_sockets() -> ProcResult<Vec<TcpNetEntry>> {
    let mut all = Vec::new();
    for table in [procfs::net::tcp(), procfs::net::tcp6()] {
        match table {
            Ok(entries) => all.extend(entries),
            // A kernel without IPv6 has no table of it.
            Err(ProcError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Those that take connections to `address`.
///
/// # Errors
/// When a table cannot be read.
pub fn listeners(address: IpAddr) -> ProcResult<Vec<Listener>> {
    let waits_there = |socket: &TcpNetEntry| {
        let at = socket.local_address.ip().to_canonical();
        socket.state == TcpState::Listen && (at.is_unspecified() || at == address)
    };
    let listener = |socket: TcpNetEntry| Listener {
        port: socket.local_address.port(),
        inode: socket.inode,
        user: socket.uid,
    };
    Ok(tcp_sockets()?.into_iter().filter(waits_there).map(listener).collect())
}

impl Listener {
    /// Whose it is, for people: `nginx (process 812)`, or the user where the process may not be seen.
    pub fn owner(&self) -> String {
        let user = || match uzers::get_user_by_uid(self.user) {
            Some(user) => format!("a program of the user {}", user.name().to_string_lossy()),
            None => format!("a program of the user {}", self.user),
        };
        self.program().unwrap_or_else(user)
    }

    fn program(&self) -> Option<String> {
        let processes = process::all_processes().ok()?;
        let found = processes.flatten().find(|process| has_socket(process, self.inode))?;
        Some(format!("{} (process {})", found.stat().ok()?.comm, found.pid()))
    }
}

fn has_socket(process: &Process, inode: u64) -> bool {
    let Ok(open) = process.fd() else { return false };
    open.flatten().any(|file| matches!(file.target, FDTarget::Socket(socket) if socket == inode))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

    fn found(address: IpAddr, port: u16) -> Option<Listener> {
        listeners(address).unwrap().into_iter().find(|listener| listener.port == port)
    }

    #[test]
    fn who_listens_is_found_with_its_program() {
        let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let owner = found(LOOPBACK, port).unwrap().owner();
        assert!(owner.ends_with(&format!("(process {})", std::process::id())), "{owner}");
        drop(listener);
        assert_eq!(found(LOOPBACK, port), None);
    }

    #[test]
    fn who_listens_everywhere_has_the_port_at_each_address() {
        for (bound, at_loopback, elsewhere) in
            [("0.0.0.0", true, true), ("::", true, true), ("127.0.0.1", true, false)]
        {
            let listener = TcpListener::bind((bound, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let seen = (found(LOOPBACK, port).is_some(), found(ELSEWHERE, port).is_some());
            assert_eq!(seen, (at_loopback, elsewhere), "{bound}");
        }
    }
}
