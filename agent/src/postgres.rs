//! PostgreSQL in the terms of this project: connections, and the tools of the server.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use lockstep_core::name::EnvironmentKey;
use lockstep_core::run::journal::StepFailure;
use lockstep_core::secret::redact::{has_unencoded_password, percent_decoded, url_password};
use lockstep_core::secret::{Secret, set_command};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

#[cfg(fuzzing)]
pub mod fuzzing;
mod hba;
mod hba_file;
pub mod keeper;
mod reach;
pub mod schema;

pub use hba::HbaQuery;
pub use reach::{COMMAND, Keeper};

/// What the driver says of its trouble; the rest of the agent knows it by this name.
pub use sqlx::Error as PostgresError;
pub use sqlx::PgConnection;

/// Where Debian puts each version's programs.
const DEBIAN_PROGRAMS: &str = "/usr/lib/postgresql";

/// The begin of `application_name` on every connection of ours.
const APPLICATION_NAME_PREFIX: &str = "lockstep/";

/// A database, by its URL, which nobody sees.
pub struct Database<'a> {
    pub environment: &'a EnvironmentKey,
    pub url: &'a Secret,
    /// The secret's name, which everybody may see.
    pub url_from: &'a str,
}

impl Database<'_> {
    fn options(&self) -> Result<PgConnectOptions, StepFailure> {
        let next = || set_command(self.environment, self.url_from);
        // The parser would take a part of the password for host, port or database, and every message would show it.
        if has_unencoded_password(self.url.expose()) {
            let what = format!("the password in {} has a `/`, `?` or `#`", self.url_from);
            let why = "such a sign ends the part of a URL that the password is in: percent-encode the password (/ is %2F, ? is %3F, # is %23, @ is %40)";
            return Err(StepFailure::new(what).why(why).next(next()));
        }
        // What the parser says may quote the URL.
        PgConnectOptions::from_str(self.url.expose()).map_err(|_| {
            StepFailure::new(format!("{} is not a PostgreSQL URL", self.url_from))
                .why("the form is postgres://user:password@host:5432/database, and special characters in the password are percent-encoded")
                .next(next())
        })
    }

    /// A connection that names itself, so that a successor can find and end it.
    ///
    /// # Errors
    /// When the server cannot be reached, or lets nobody in.
    pub async fn connect(&self, name: &str) -> Result<PgConnection, StepFailure> {
        let options = self
            .options()?
            .application_name(&format!("{APPLICATION_NAME_PREFIX}{name}"))
            .disable_statement_logging();
        PgConnection::connect_with(&options).await.map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &sqlx::Error) -> StepFailure {
        let options = self.options().ok();
        let at = options
            .as_ref()
            .map_or_else(String::new, |options| format!(" at {}:{}", options.get_host(), options.get_port()));
        let failure = StepFailure::new(format!("cannot reach the database of {}{at}", self.url_from));
        if let sqlx::Error::Database(error) = error {
            return failure
                .why(error.message().to_owned())
                .next("check user, password and database in the URL, and pg_hba.conf on the server");
        }
        failure.why(error.to_string()).next("check that the server is running and listens on that address")
    }

    /// Refuses an address that means another machine inside a container than outside.
    ///
    /// # Errors
    /// When the URL names this machine as itself.
    pub fn refuse_loopback(&self) -> Result<(), StepFailure> {
        let options = self.options()?;
        let host = options.get_host();
        if matches!(host, "localhost" | "::1" | "[::1]") || host.starts_with("127.") || host.starts_with('/')
        {
            return Err(StepFailure::new(format!("{} names the address {host}", self.url_from))
                .why("inside a container this is the container itself, not this machine")
                .next("use the address of the Docker bridge (ip address show docker0), and let PostgreSQL listen there"));
        }
        Ok(())
    }

    /// What a tool of PostgreSQL needs to connect as the agent does.
    ///
    /// # Errors
    /// When the URL is not one.
    pub fn tool_connection(&self) -> Result<ToolConnection, StepFailure> {
        let options = self.options()?;
        let host = options
            .get_socket()
            .map_or_else(|| options.get_host().to_owned(), |socket| socket.display().to_string());
        let mut parameters = vec![
            ("host", host),
            ("port", options.get_port().to_string()),
            ("user", options.get_username().to_owned()),
            ("dbname", options.get_database().unwrap_or(options.get_username()).to_owned()),
        ];
        parameters.extend(tool_parameters(self.url.expose()));
        let parameters: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect();
        let password = url_password(self.url.expose()).map(percent_decoded);
        Ok(ToolConnection {
            arguments: vec![format!("--dbname={}", parameters.join(" ")), "--no-password".to_owned()],
            password: password.map(Secret::new),
        })
    }
}

/// How a tool connects.
pub struct ToolConnection {
    pub arguments: Vec<String>,
    /// For `PGPASSWORD`: everybody could see it among the arguments, and a file would outlive a killed agent.
    pub password: Option<Secret>,
}

/// Parameters of libpq, with the names that the driver also takes for them. What else is in a URL is for the application
/// alone, and libpq refuses what it does not know.
/// <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS>
const TOOL_PARAMETERS: [(&str, &[&str]); 11] = [
    ("sslmode", &["sslmode", "ssl-mode"]),
    ("sslrootcert", &["sslrootcert", "ssl-root-cert", "ssl-ca"]),
    ("sslcert", &["sslcert", "ssl-cert"]),
    ("sslkey", &["sslkey", "ssl-key"]),
    ("sslcrl", &["sslcrl"]),
    ("ssl_min_protocol_version", &["ssl_min_protocol_version"]),
    ("channel_binding", &["channel_binding"]),
    ("gssencmode", &["gssencmode"]),
    ("connect_timeout", &["connect_timeout"]),
    ("target_session_attrs", &["target_session_attrs"]),
    ("options", &["options"]),
];

/// The parameters of a URL that tools get too.
fn tool_parameters(url: &str) -> Vec<(&'static str, String)> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .filter_map(|(name, value)| {
            let name = percent_decoded(name);
            let known = TOOL_PARAMETERS.iter().find(|(_, names)| names.contains(&name.as_str()));
            known.map(|(name, _)| (*name, percent_decoded(value)))
        })
        .collect()
}

/// A value in a connection string of libpq, which otherwise takes `a=b` or `postgres://x` for more than a name.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The server's major version and the database's size in bytes.
///
/// # Errors
/// When the server does not say.
pub async fn server(connection: &mut PgConnection) -> Result<(u32, u64), sqlx::Error> {
    let row = sqlx::query("SELECT current_setting('server_version_num')::int AS version, pg_database_size(current_database()) AS size")
        .fetch_one(connection)
        .await?;
    let version: i32 = row.try_get("version")?;
    let size: i64 = row.try_get("size")?;
    Ok((u32::try_from(version).unwrap_or_default() / 10_000, u64::try_from(size).unwrap_or_default()))
}

/// When the server began, by its own clock: no two servers have the same.
///
/// # Errors
/// When the server does not say.
pub async fn started_at(connection: &mut PgConnection) -> Result<f64, sqlx::Error> {
    sqlx::query_scalar("SELECT extract(epoch FROM pg_postmaster_start_time())::float8")
        .fetch_one(connection)
        .await
}

/// Runs statements that were written by the release's authors, as they are.
///
/// # Errors
/// As PostgreSQL says.
pub async fn run(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(|_| ())
}

/// Ends every other connection of ours to this database and waits until it is gone: what a killed
/// predecessor began must not go on beside its successor.
///
/// # Errors
/// When the server does not answer.
pub async fn end_predecessors(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    loop {
        let left: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND usename = current_user AND application_name LIKE 'lockstep/%' \
             AND pid <> pg_backend_pid()) AS ended",
        )
        .fetch_one(&mut *connection)
        .await?;
        if left == 0 {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// The folder of the server's programs: as set, else the newest that Debian has.
pub fn programs(set: Option<&Path>) -> Option<PathBuf> {
    if let Some(set) = set {
        return Some(set.to_owned());
    }
    let versions = std::fs::read_dir(DEBIAN_PROGRAMS).ok()?;
    let newest = versions.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok()).max()?;
    Some(Path::new(DEBIAN_PROGRAMS).join(newest.to_string()).join("bin"))
}

/// The version of a tool: `pg_dump (PostgreSQL) 15.18 (Debian …)` → `15.18`.
pub async fn tool_version(program: &Path) -> Option<String> {
    let output = tokio::process::Command::new(program).arg("--version").output().await.ok()?;
    String::from_utf8_lossy(&output.stdout).split_whitespace().nth(2).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an operator is shown of this URL.
    fn shown(url: &str) -> String {
        let environment = "notes/production".parse().unwrap();
        let url = Secret::new(url.to_owned());
        let database = Database { environment: &environment, url: &url, url_from: "DATABASE_URL" };
        let failures = [database.options().err(), database.refuse_loopback().err()];
        let unreachable = database.unreachable(&sqlx::Error::PoolClosed);
        failures.into_iter().flatten().chain([unreachable]).map(|failure| format!("{failure:?}")).collect()
    }

    #[test]
    fn no_part_of_a_password_that_is_not_encoded_is_shown() {
        for password in ["h0rse@st4ple/b4ttery:c0rrect", "st4ple/b4ttery", "12345?b4ttery", "st4ple#b4ttery"]
        {
            let shown = shown(&format!("postgres://app:{password}@localhost:5432/notes"));
            assert!(shown.contains("percent-encode the password"), "{shown}");
            for part in ["h0rse", "st4ple", "b4ttery", "c0rrect", "12345"] {
                assert!(!shown.contains(part), "{part} in {shown}");
            }
        }
    }

    fn tool(url: &str) -> (String, Option<String>) {
        let environment = "notes/production".parse().unwrap();
        let url = Secret::new(url.to_owned());
        let database = Database { environment: &environment, url: &url, url_from: "DATABASE_URL" };
        let ToolConnection { arguments, password } = database.tool_connection().unwrap();
        (arguments[0].clone(), password.map(|password| password.expose().to_owned()))
    }

    #[test]
    fn a_tool_connects_as_the_url_says() {
        let (connection, password) = tool(
            "postgres://app:p%40ss@db:5433/notes?sslmode=verify-ca&ssl-root-cert=%2Fetc%2Fca%20of%20us.pem&schema=public&pgbouncer=true",
        );
        let wanted = "--dbname=host='db' port='5433' user='app' dbname='notes' sslmode='verify-ca' sslrootcert='/etc/ca of us.pem'";
        assert_eq!(connection, wanted);
        assert_eq!(password.as_deref(), Some("p@ss"));
    }

    #[test]
    fn a_name_is_nothing_but_a_name() {
        let (connection, password) = tool("postgres://app@db/a%3Db%27%5C");
        assert_eq!(connection, "--dbname=host='db' port='5432' user='app' dbname='a=b\\'\\\\'");
        assert_eq!(password, None);
    }

    #[test]
    fn an_encoded_password_and_an_at_sign_elsewhere_are_as_good_as_any() {
        for url in [
            "postgres://app:p%40ss%2Fw%3Ard@db:5432/notes",
            "postgres://app:p@ss@db:5432/notes",
            "postgres://app:pass@db:5432/notes?application_name=me@home",
        ] {
            let shown = shown(url);
            assert!(shown.contains("cannot reach the database of DATABASE_URL at db:5432"), "{shown}");
            assert!(!shown.contains("percent-encode"), "{shown}");
        }
    }
}
