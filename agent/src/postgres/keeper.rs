//! The keeper manages an environment's lines in `pg_hba.conf`. It is a process of its own that runs as the server's
//! user: that user may write the file, and may connect over the server's socket as superuser. The agent can do neither,
//! and needs no privilege for it.
//!
//! What must stay true: rules that PostgreSQL would reject, or that would not admit their host, are never in force. The
//! file is replaced whole or not at all; PostgreSQL checks it before it is told to reload, and a file with errors is
//! put back. A removal of lines never fails because of an administrator's lines: an undo must end.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::hba::{DatabaseRole, HbaLine};
use lockstep_core::run::journal::StepFailure;
use lockstep_runtime::durable;
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgRow, PgSslMode};
use sqlx::{ConnectOptions, Connection, PgConnection, Row};
use tokio::time::{Instant, sleep};

use super::hba_file::{self, HbaFileError, Rule};
use super::{APPLICATION_NAME_PREFIX, started_at};

/// How long PostgreSQL may take to read its rules anew.
const RELOAD_LIMIT: Duration = Duration::from_secs(5);

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Two environments' blocks are in one file: who changes it has this lock of the server, until its connection ends.
const LOCK: i64 = 0x6c6f_636b_7374_6570;

/// The name of the database that every cluster begins with.
const MAINTENANCE: &str = "postgres";

/// What the agent wants.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Where the server's socket is.
    pub sockets: PathBuf,
    pub port: u16,
    pub environment: EnvironmentKey,
    pub what: KeeperOperation,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum KeeperOperation {
    Look(HbaLookup),
    /// The environment has exactly these lines.
    Keep {
        lines: Vec<HbaLine>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HbaLookup {
    /// When the server began that the database is of, by its own clock.
    pub started_at: f64,
    pub role: DatabaseRole,
    pub addresses: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// The environment's lines, and which of the addresses are let in.
    Seen {
        lines: Vec<HbaLine>,
        admitted: Vec<String>,
    },
    /// Another server than the database's listens there.
    AnotherServer,
    Kept {
        said: String,
    },
    Failed(StepFailure),
}

/// Reads a request from standard input and answers on standard output.
///
/// # Errors
/// When there is no request, or nobody who hears the answer.
pub async fn serve() -> anyhow::Result<()> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let answer = answer(serde_json::from_str(&text)?).await;
    serde_json::to_writer(io::stdout(), &answer)?;
    Ok(())
}

async fn answer(request: Request) -> Answer {
    let Request { sockets, port, environment, what } = request;
    let server = Server { sockets, port, environment };
    let answered = match what {
        KeeperOperation::Look(look) => server.look(&look).await,
        KeeperOperation::Keep { lines } => server.keep(&lines).await,
    };
    answered.unwrap_or_else(Answer::Failed)
}

struct Server {
    sockets: PathBuf,
    port: u16,
    environment: EnvironmentKey,
}

impl Server {
    async fn look(&self, look: &HbaLookup) -> Result<Answer, StepFailure> {
        let mut connection = self.connect().await?;
        let began = started_at(&mut connection).await.map_err(query_failed)?;
        if (began - look.started_at).abs() > 0.001 {
            return Ok(Answer::AnotherServer);
        }
        let file = RulesFile::load(&mut connection).await?;
        let lines =
            hba_file::lines(&file.text, &self.environment).map_err(|error| file.not_changed(&error))?;
        let rules = match file.parse_rules(&mut connection).await? {
            Parsed::Rules(rules) => rules,
            Parsed::Faults(faults) => return Err(file.rejected(&faults)),
        };
        let is_admitted =
            |address: &&String| hba_file::deciding(&rules, &look.role, address).is_some_and(Rule::allows);
        let admitted = look.addresses.iter().filter(is_admitted).cloned().collect();
        Ok(Answer::Seen { lines, admitted })
    }

    async fn keep(&self, wanted: &[HbaLine]) -> Result<Answer, StepFailure> {
        let mut connection = self.connect().await?;
        self.lock(&mut connection).await.map_err(query_failed)?;
        let file = RulesFile::load(&mut connection).await?;
        let current =
            hba_file::lines(&file.text, &self.environment).map_err(|error| file.not_changed(&error))?;
        let text = hba_file::with_lines(&file.text, &self.environment, wanted)
            .map_err(|error| file.not_changed(&error))?;
        let added: Vec<&HbaLine> = wanted.iter().filter(|line| !current.contains(line)).collect();
        if !added.is_empty() {
            if let Parsed::Faults(faults) = file.parse_rules(&mut connection).await? {
                return Err(file.rejected(&faults));
            }
            refuse_md5(&mut connection, &added).await?;
        }
        if text != file.text {
            file.write(&file.text, &text)?;
            if let Err(failure) = file.check_admits(&mut connection, &added).await {
                file.write(&text, &file.text)?;
                return Err(failure);
            }
        }
        let said = match (self.reload(&mut connection).await.map_err(query_failed)?, text == file.text) {
            (Reload::Seen, true) => "its lines are already there".to_owned(),
            (Reload::Seen, false) => format!("PostgreSQL has reloaded {}", file.path.display()),
            (Reload::NotSeen, _) => {
                let name = file.path.display();
                format!("{name} is written, and PostgreSQL has not confirmed the reload: read its log")
            }
        };
        Ok(Answer::Kept { said })
    }

    fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.sockets)
            .port(self.port)
            .username(&own_name())
            .database(MAINTENANCE)
            .ssl_mode(PgSslMode::Disable)
            .application_name(&self.name())
            .disable_statement_logging()
    }

    fn name(&self) -> String {
        format!("{APPLICATION_NAME_PREFIX}pg_hba/{}", self.environment)
    }

    async fn connect(&self) -> Result<PgConnection, StepFailure> {
        PgConnection::connect_with(&self.options()).await.map_err(|error| {
            let why =
                error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
            StepFailure::new(format!("PostgreSQL at {} refuses its own user", self.sockets.display()))
                .why(why)
                .next("add `local all postgres peer` to pg_hba.conf; or manage that file yourself: database.postgres.pg_hba: by_hand")
        })
    }

    /// What a killed predecessor began does not go on beside its successor.
    async fn lock(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name = left($1, 63) AND pid <> pg_backend_pid()",
        )
        .bind(self.name())
        .execute(&mut *connection)
        .await?;
        sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK).execute(connection).await.map(drop)
    }

    /// The one process that lets in reads the rules before it begins another connection: one that begins with a later
    /// time of reading proves it.
    async fn reload(&self, connection: &mut PgConnection) -> Result<Reload, sqlx::Error> {
        let asked: f64 = sqlx::query_scalar("SELECT extract(epoch FROM clock_timestamp())::float8")
            .fetch_one(&mut *connection)
            .await?;
        sqlx::query("SELECT pg_reload_conf()").execute(connection).await?;
        let begun = Instant::now();
        while begun.elapsed() < RELOAD_LIMIT {
            let mut next = PgConnection::connect_with(&self.options()).await?;
            let read: f64 = sqlx::query_scalar("SELECT extract(epoch FROM pg_conf_load_time())::float8")
                .fetch_one(&mut next)
                .await?;
            next.close().await?;
            if read >= asked {
                return Ok(Reload::Seen);
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(Reload::NotSeen)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reload {
    Seen,
    NotSeen,
}

/// What PostgreSQL makes of the file as it is on the disk.
enum Parsed {
    Rules(Vec<Rule>),
    /// Where, and what: none of the file is taken.
    Faults(Vec<String>),
}

/// The server's file, and its text when it was read.
struct RulesFile {
    path: PathBuf,
    text: String,
}

impl RulesFile {
    async fn load(connection: &mut PgConnection) -> Result<Self, StepFailure> {
        let path: String =
            sqlx::query_scalar("SHOW hba_file").fetch_one(connection).await.map_err(query_failed)?;
        // Where it is a link, what it leads to is replaced.
        let path = fs::canonicalize(&path).map_err(|error| write_failed(Path::new(&path), &error))?;
        let text = fs::read_to_string(&path).map_err(|error| write_failed(&path, &error))?;
        Ok(Self { path, text })
    }

    async fn parse_rules(&self, connection: &mut PgConnection) -> Result<Parsed, StepFailure> {
        // Since PostgreSQL 16 a file may include others, and each rule says which it is in.
        let rows = sqlx::query(
            "SELECT line_number, type, database, user_name, address, netmask, auth_method, error, \
             to_jsonb(rule) ->> 'file_name' AS file FROM pg_hba_file_rules AS rule",
        )
        .fetch_all(connection)
        .await
        .map_err(query_failed)?;
        let mut rules = Vec::new();
        let mut faults = Vec::new();
        for row in rows {
            match self.rule(&row).map_err(query_failed)? {
                Ok(rule) => rules.push(rule),
                Err(fault) => faults.push(fault),
            }
        }
        Ok(if faults.is_empty() { Parsed::Rules(rules) } else { Parsed::Faults(faults) })
    }

    fn rule(&self, row: &PgRow) -> Result<Result<Rule, String>, sqlx::Error> {
        let line: Option<i32> = row.try_get("line_number")?;
        let file: Option<String> = row.try_get("file")?;
        let file = file.unwrap_or_else(|| self.path.display().to_string());
        let place = format!("{file}:{}", line.unwrap_or_default());
        let kind: Option<String> = row.try_get("type")?;
        let error: Option<String> = row.try_get("error")?;
        let Some(kind) = kind else {
            return Ok(Err(format!("{place}: {}", error.unwrap_or_default())));
        };
        Ok(Ok(Rule {
            place,
            // One that is understood and cannot apply, as one about TLS without TLS, is no fault and fits nobody.
            kind: if error.is_some() { String::new() } else { kind },
            databases: row.try_get::<Option<Vec<String>>, _>("database")?.unwrap_or_default(),
            users: row.try_get::<Option<Vec<String>>, _>("user_name")?.unwrap_or_default(),
            address: row.try_get("address")?,
            netmask: row.try_get("netmask")?,
            method: row.try_get::<Option<String>, _>("auth_method")?.unwrap_or_default(),
        }))
    }

    /// Whether each of these lines does what it is for.
    async fn check_admits(
        &self,
        connection: &mut PgConnection,
        added: &[&HbaLine],
    ) -> Result<(), StepFailure> {
        if added.is_empty() {
            return Ok(());
        }
        let rules = match self.parse_rules(connection).await? {
            Parsed::Rules(rules) => rules,
            Parsed::Faults(faults) => return Err(self.rejected(&faults)),
        };
        for line in added {
            let rule = hba_file::deciding(&rules, &line.role, &line.address);
            if rule.is_some_and(Rule::allows) {
                continue;
            }
            let because = match rule {
                Some(rule) => format!("{} comes before it and rejects {}", rule.place, line.address),
                None => "PostgreSQL does not apply it; a line for TLS needs ssl = on".to_owned(),
            };
            return Err(StepFailure::new(format!(
                "the line for {} in pg_hba.conf would not admit it",
                line.host
            ))
            .why(because)
            .next("change the line before it, or add the line yourself further up; nothing was changed"));
        }
        Ok(())
    }

    /// Replaces it whole, if it is as it was read, for the same owner and with the same permissions.
    fn write(&self, read: &str, text: &str) -> Result<(), StepFailure> {
        replace(&self.path, read, text).map_err(|error| write_failed(&self.path, &error))
    }

    fn not_changed(&self, error: &HbaFileError) -> StepFailure {
        StepFailure::new(format!("{} was not changed", self.path.display()))
            .why(error.to_string())
            .next("repair the block, or remove everything from # BEGIN LOCKSTEP to # END LOCKSTEP")
    }

    fn rejected(&self, faults: &[String]) -> StepFailure {
        StepFailure::new(format!("PostgreSQL rejects {}", self.path.display()))
            .why(faults.join("; "))
            .next("fix that line; list the errors: SELECT * FROM pg_hba_file_rules WHERE error IS NOT NULL")
    }
}

fn replace(path: &Path, read: &str, text: &str) -> io::Result<()> {
    let before = fs::metadata(path)?;
    let temporary = path.with_extension("conf.lockstep");
    let mut file =
        fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    let made = file.metadata()?;
    if (made.uid(), made.gid()) != (before.uid(), before.gid()) {
        fchown(&file, Some(before.uid()), Some(before.gid()))?;
    }
    file.set_permissions(fs::Permissions::from_mode(before.mode()))?;
    file.sync_all()?;
    if fs::read_to_string(path)? != read {
        fs::remove_file(&temporary)?;
        return Err(io::Error::other("something else changed it at the same time"));
    }
    fs::rename(&temporary, path)?;
    durable::sync_parent(path)
}

/// A password that is kept as MD5 is of no use to SCRAM.
async fn refuse_md5(connection: &mut PgConnection, added: &[&HbaLine]) -> Result<(), StepFailure> {
    for line in added {
        let user = &line.role.user;
        let is_md5: Option<bool> =
            sqlx::query_scalar("SELECT rolpassword LIKE 'md5%' FROM pg_authid WHERE rolname = $1")
                .bind(user)
                .fetch_optional(&mut *connection)
                .await
                .map_err(query_failed)?
                .flatten();
        if is_md5 == Some(true) {
            return Err(StepFailure::new(format!("the role {user} cannot log in with SCRAM"))
                .why("PostgreSQL stores its password as MD5")
                .next(format!(
                    "SET password_encryption = 'scram-sha-256'; then: ALTER ROLE {user} PASSWORD …"
                )));
        }
    }
    Ok(())
}

/// Of the user that this process runs as; of PostgreSQL's own where it has none.
fn own_name() -> String {
    let user = uzers::get_user_by_uid(rustix::process::geteuid().as_raw());
    let name = user.and_then(|user| user.name().to_str().map(ToOwned::to_owned));
    name.unwrap_or_else(|| MAINTENANCE.to_owned())
}

fn query_failed(error: sqlx::Error) -> StepFailure {
    let why = error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
    StepFailure::new("cannot query PostgreSQL for its pg_hba.conf rules").why(why)
}

fn write_failed(path: &Path, error: &io::Error) -> StepFailure {
    StepFailure::new(format!("cannot read or write {}", path.display()))
        .why(error.to_string())
        .next("the user that PostgreSQL runs as must own it; or manage it yourself: database.postgres.pg_hba: by_hand")
}
