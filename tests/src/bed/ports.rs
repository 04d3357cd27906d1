//! Ports that nobody listens on.

use std::net::{IpAddr, TcpListener};
use std::ops::Range;

use anyhow::Context;

/// Below the ports that Linux gives to outgoing connections (32768 to 60999, `ip_local_port_range`): a server that
/// binds its port later, or again after a crash, must not find a client's connection there.
/// Below the ports of slots as well, which a coordinator gives away from 20000.
const PORTS: Range<u16> = 10_000..20_000;

/// A port on which nobody listens, chosen at random, so that two callers do not get the same one.
///
/// # Errors
/// If no port is free.
pub fn free_port(ip: IpAddr) -> anyhow::Result<u16> {
    let mut refused = None;
    for _ in 0..PORTS.len() {
        let port = fastrand::u16(PORTS);
        match TcpListener::bind((ip, port)) {
            Ok(_) => return Ok(port),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.expect("PORTS is not empty")).with_context(|| format!("cannot listen on {ip} at all"))
}
