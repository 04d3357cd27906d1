//! Why an environment is not there: nothing was ever deployed to it, or it was given up. Its history stays, so it says
//! which.

use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::operation::{OperationKind, Refusal};
use lockstep_core::run::journal::Verdict;

use crate::record::audit::{self, ABANDON_ENVIRONMENT, REMOVE_ENVIRONMENT};
use crate::record::history;
use crate::store::{Store, StoreError};

/// What helps whoever only looks, where nothing was ever deployed.
pub const LIST: &str = "lockstep env list    # the environments that were deployed to";

/// What is said to who may see the environment, and would be told of it if it were there. `first` is the command that
/// helps where nothing was ever deployed.
///
/// # Errors
/// When the store does not answer.
pub async fn refusal(
    store: &dyn Store,
    environment: &EnvironmentKey,
    first: String,
) -> Result<Refusal, StoreError> {
    let newest = history::recent(store, environment, 1).await?.pop();
    let Some(newest) = newest else {
        return Ok(Refusal {
            what: format!("there is no environment {environment}"),
            why: "nothing has been deployed to it".to_owned(),
            next: first,
        });
    };
    let is_decommission =
        newest.kind == OperationKind::Decommission && newest.verdict == Some(Verdict::Succeeded);
    let why = match newest.ended_at.filter(|_| is_decommission) {
        Some(at) => format!("{} decommissioned it at {at}", newest.operator),
        None => removed(store, environment).await?,
    };
    Ok(Refusal {
        what: format!("there is no environment {environment} any more"),
        why,
        next: format!("lockstep history {environment}    # what was deployed to it"),
    })
}

/// Who removed it, as the audit log says.
async fn removed(store: &dyn Store, environment: &EnvironmentKey) -> Result<String, StoreError> {
    let entries = audit::list(store, Some(environment), usize::MAX).await?;
    let removal = entries
        .into_iter()
        .find(|entry| [REMOVE_ENVIRONMENT, ABANDON_ENVIRONMENT].contains(&entry.verb.as_str()));
    Ok(removal.map_or_else(
        || "it was removed".to_owned(),
        |entry| format!("{} removed it at {}", entry.operator, entry.at),
    ))
}
