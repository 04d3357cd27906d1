//! Ports that nobody listens on.

use std::net::{IpAddr, TcpListener};

use anyhow::Context;

/// Free when it was asked for; the system gives the same one again only after
/// having gone through the others.
pub fn free_port(ip: IpAddr) -> anyhow::Result<u16> {
    let listener = TcpListener::bind((ip, 0)).with_context(|| format!("cannot listen on {ip} at all"))?;
    Ok(listener.local_addr()?.port())
}
