//! What the environment says, read once. Nothing else reads it.

use std::env;
use std::net::SocketAddr;
use std::str::FromStr;

use anyhow::{Context, anyhow, bail};
use sqlx::postgres::PgConnectOptions;

/// How `/health` answers: for real, or as a test wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Real,
    Degraded,
    Unhealthy,
    Hang,
    Error,
}

#[derive(Clone)]
pub struct Settings {
    pub address: SocketAddr,
    pub database: PgConnectOptions,
    pub health: Health,
    pub version: String,
    pub commit: String,
}

impl Settings {
    pub fn from_environment() -> anyhow::Result<Settings> {
        let url = env::var("DATABASE_URL").context("DATABASE_URL is not set")?;
        // The cause is left out: it may quote the URL, and the URL has a password.
        let database = PgConnectOptions::from_str(&url)
            .map_err(|_| anyhow!("DATABASE_URL is not the URL of a PostgreSQL database"))?;
        // The options themselves take any scheme.
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            bail!("DATABASE_URL does not begin with postgres://");
        }
        let address = or("NOTES_ADDRESS", "0.0.0.0:8080");
        Ok(Settings {
            address: address
                .parse()
                .with_context(|| format!("NOTES_ADDRESS is not an address and a port: {address:?}"))?,
            database: database.application_name("notes"),
            health: health(&or("NOTES_HEALTH", "ok"))?,
            version: or("NOTES_VERSION", env!("CARGO_PKG_VERSION")),
            commit: or("NOTES_COMMIT", "unknown"),
        })
    }
}

/// A number that is none is taken for 1: whoever sets it wants the process to end.
pub fn exit_at_start() -> Option<u8> {
    let code = env::var("NOTES_EXIT").ok().filter(|code| !code.is_empty())?;
    Some(code.parse().unwrap_or(1))
}

fn or(name: &str, default: &str) -> String {
    match env::var(name) {
        Ok(value) if !value.is_empty() => value,
        Ok(_) | Err(_) => default.to_owned(),
    }
}

fn health(text: &str) -> anyhow::Result<Health> {
    Ok(match text {
        "ok" => Health::Real,
        "degraded" => Health::Degraded,
        "unhealthy" => Health::Unhealthy,
        "hang" => Health::Hang,
        "error" => Health::Error,
        other => {
            bail!("NOTES_HEALTH is {other:?}: ok, degraded, unhealthy, hang and error are known")
        }
    })
}
