//! Requests to a scene's site, one by one or as a load of which nothing may be lost.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};

use crate::load::{Load, Report};
use crate::scene::SOON;

/// Requests in a second: enough to notice a loss, and few enough that two cores have time for the rest.
pub const RATE: u32 = 200;

/// Ends a load, and fails unless it sent requests and every one was answered.
pub fn assert_none_lost(load: Load) -> Result<Report> {
    let report = load.stop_and_wait()?;
    ensure!(report.requests > 0, "the load sent nothing");
    ensure!(
        report.failed == 0,
        "{} of {} requests failed: {:?}",
        report.failed,
        report.requests,
        report.failures
    );
    Ok(report)
}

pub fn get(site: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(site)?;
    stream.set_read_timeout(Some(SOON))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", site.ip())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

pub fn version_in(answer: &str) -> Result<String> {
    let header = answer
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("x-version: ").map(str::to_owned));
    header.with_context(|| format!("the answer has no X-Version: {answer}"))
}
