//! Ports that nobody listens on.

use std::net::{IpAddr, TcpListener};
use std::ops::Range;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::Context;

/// Below the ports that Linux gives to outgoing connections (32768 to 60999, `ip_local_port_range`): a server that
/// binds its port later, or again after a crash, must not find a client's connection there.
/// Below the ports of slots as well, which a coordinator gives away from 20000.
const PORTS: Range<u16> = 10_000..20_000;

/// How many were given away. Begins anywhere, so that two processes do not get the same ones.
static GIVEN: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(fastrand::u16(..)));

/// A port on which nobody listens. A process gets each one once: its server may bind it later, or be down for a while.
///
/// # Errors
/// If no port is free.
pub fn free_port(ip: IpAddr) -> anyhow::Result<u16> {
    let mut refused = None;
    for _ in PORTS {
        let port = PORTS.start + GIVEN.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start);
        match TcpListener::bind((ip, port)) {
            Ok(_) => return Ok(port),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.expect("PORTS is not empty")).with_context(|| format!("cannot listen on {ip} at all"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once_though_nobody_has_bound_it_yet() {
        let given: std::collections::BTreeSet<u16> =
            (0..1_000).map(|_| free_port([127, 0, 0, 1].into()).unwrap()).collect();
        assert_eq!(given.len(), 1_000);
    }
}
