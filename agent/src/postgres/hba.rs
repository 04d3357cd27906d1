//! Queries and changes `pg_hba.conf` through the [`keeper`](super::keeper), if the database of a URL is on this host.

use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::hba::{DatabaseRole, HbaBlock, Transport};
use lockstep_core::record::observed::{HbaObservation, LocalHba};
use lockstep_core::run::journal::StepFailure;
use sqlx::PgConnection;
use sqlx::postgres::PgSslMode;

use super::keeper::{Answer, HbaLookup, KeeperOperation, Request};
use super::reach::{Keeper, is_local_address};
use super::{Database, started_at};

/// Whose lines, and which addresses are asked about.
#[derive(Debug, Clone, Copy)]
pub struct HbaQuery<'a> {
    pub environment: &'a EnvironmentKey,
    pub addresses: &'a [String],
}

impl Keeper {
    /// Which of the addresses PostgreSQL lets in, by `connection` to the database.
    ///
    /// # Errors
    /// When the URL is not one.
    pub async fn query_hba(
        &self,
        database: &Database<'_>,
        connection: &mut PgConnection,
        query: HbaQuery<'_>,
    ) -> Result<HbaObservation, StepFailure> {
        let options = database.options()?;
        let not_ours = |because: String| Ok(HbaObservation::NotOurs { because });
        let another = format!("the database of {} is not on the PostgreSQL of this host", database.url_from);
        let port = options.get_port();
        if !is_local_address(options.get_host()) || !self.has_server(port) {
            return not_ours(another);
        }
        let transport = match options.get_ssl_mode() {
            PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer => Transport::Any,
            PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull => Transport::Tls,
        };
        let user = options.get_username().to_owned();
        let role =
            DatabaseRole { database: options.get_database().unwrap_or(&user).to_owned(), user, transport };
        let Ok(started_at) = started_at(connection).await else {
            return not_ours("the database does not report which server it is on".to_owned());
        };
        let lookup = HbaLookup { started_at, role: role.clone(), addresses: query.addresses.to_vec() };
        Ok(match self.ask(&self.request(port, query.environment, KeeperOperation::Look(lookup))).await {
            Ok(Answer::Seen { lines, admitted }) => {
                HbaObservation::Here(LocalHba { port, role, lines, admitted: admitted.into_iter().collect() })
            }
            Ok(Answer::AnotherServer) => HbaObservation::NotOurs { because: another },
            Ok(Answer::Kept { .. } | Answer::Failed(_)) => unknown(answer_mismatch()),
            Err(failure) => unknown(failure),
        })
    }

    /// The environment's lines are these, and PostgreSQL goes by them.
    ///
    /// # Errors
    /// When they would not let in whom they are to, or the file cannot be written: then it is as it was.
    pub async fn apply_lines(
        &self,
        environment: &EnvironmentKey,
        wanted: &HbaBlock,
    ) -> Result<String, StepFailure> {
        let what = KeeperOperation::Keep { lines: wanted.lines.clone() };
        match self.ask(&self.request(wanted.port, environment, what)).await? {
            Answer::Kept { said } => Ok(said),
            Answer::Seen { .. } | Answer::AnotherServer | Answer::Failed(_) => Err(answer_mismatch()),
        }
    }

    fn request(&self, port: u16, environment: &EnvironmentKey, what: KeeperOperation) -> Request {
        Request { sockets: self.sockets.clone(), port, environment: environment.clone(), what }
    }
}

/// What cannot be asked is nobody's to change: a plan says so, and goes on without.
fn unknown(failure: StepFailure) -> HbaObservation {
    let StepFailure { what, why, next, .. } = failure;
    let parts = [Some(what), why, next];
    HbaObservation::NotOurs { because: parts.into_iter().flatten().collect::<Vec<_>>().join("; ") }
}

fn answer_mismatch() -> StepFailure {
    StepFailure::new("bug: the pg_hba.conf helper answered another question")
}
