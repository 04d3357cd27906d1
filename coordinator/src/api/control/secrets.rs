//! Import, list and compare secrets. Only names and fingerprints are returned.

use std::collections::{BTreeMap, HashMap};

use lockstep_core::count::counted;
use lockstep_core::secret::Secret;
use lockstep_core::secret::limits::with_nul;
use lockstep_core::spec::check::is_variable;
use lockstep_proto::Invalid;
use lockstep_proto::wire;
use tonic::Status;

use super::convert::environment;
use super::failure::{import_status, secrets_status};
use super::{Caller, ControlApi};
use crate::record::vault::{Listing, SecretsSource, UndoneChange};

pub(super) async fn import(
    api: &ControlApi,
    caller: &Caller,
    request: wire::ImportSecretsRequest,
) -> Result<wire::SecretsReply, Status> {
    let wire::ImportSecretsRequest { environment: text, values: plain, replace } = request;
    let environment = environment(caller, &text)?;
    let values = values(plain)?;
    let source = if replace { SecretsSource::File } else { SecretsSource::Set };
    let by = (caller.operator()?.clone(), api.context.clock.now());
    let count = values.len();
    let version = api.vault.import(&environment, values, source, by).await;
    let version = version.map_err(|error| import_status(&environment, &error))?;
    let said = format!("imported {}; the latest version is {version}", counted(count, "secret"));
    api.audit(caller, "import secrets", Some(&environment), said).await?;
    listed(api, &environment).await
}

pub(super) async fn list(
    api: &ControlApi,
    caller: &Caller,
    request: wire::EnvironmentRef,
) -> Result<wire::SecretsReply, Status> {
    listed(api, &environment(caller, &request.environment)?).await
}

pub(super) async fn diff(
    api: &ControlApi,
    caller: &Caller,
    request: wire::DiffSecretsRequest,
) -> Result<wire::DiffSecretsReply, Status> {
    let environment = environment(caller, &request.environment)?;
    let values = values(request.values)?;
    let difference = api.vault.diff(&environment, &values, caller.operator()?).await;
    let difference = difference.map_err(|error| secrets_status(&error))?;
    let undone = |UndoneChange { name, by, at }| wire::UndoneChange { name, by: by.into(), at_ms: at.0 };
    Ok(wire::DiffSecretsReply {
        version: difference.version,
        added: difference.added,
        changed: difference.changed,
        removed: difference.removed,
        undone: difference.undone.into_iter().map(undone).collect(),
    })
}

async fn listed(
    api: &ControlApi,
    environment: &lockstep_core::name::EnvironmentKey,
) -> Result<wire::SecretsReply, Status> {
    let listing = api.vault.list(environment).await.map_err(|error| secrets_status(&error))?;
    let Some(Listing { version, at, by, fingerprints }) = listing else {
        return Ok(wire::SecretsReply::default());
    };
    let secrets =
        fingerprints.into_iter().map(|(name, fingerprint)| wire::SecretName { name, fingerprint }).collect();
    Ok(wire::SecretsReply { version, set_at_ms: at.0, set_by: by.into(), secrets })
}

/// From here on the values cannot get into a log.
fn values(plain: HashMap<String, String>) -> Result<BTreeMap<String, Secret>, Invalid> {
    let mut values = BTreeMap::new();
    for (name, value) in plain {
        if !is_variable(&name) {
            return Err(Invalid {
                field: "values",
                // Somebody may have typed the value with it.
                what: "has a name that is not a valid name of a variable".to_owned(),
            });
        }
        values.insert(name, Secret::new(value));
    }
    if let Some(name) = with_nul(&values) {
        let what = format!("has a NUL character in the value of {name}, which no variable can have");
        return Err(Invalid { field: "values", what });
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_with_nul_is_refused_and_not_shown() {
        let refused = values(HashMap::from([("A".to_owned(), "s3\0cr3t".to_owned())])).unwrap_err();
        assert!(refused.what.ends_with("value of A, which no variable can have"), "{}", refused.what);
    }

    #[test]
    fn a_secret_has_the_name_of_a_variable() {
        let one = |name: &str| HashMap::from([(name.to_owned(), "s3cr3t".to_owned())]);
        assert_eq!(values(one("DATABASE_URL")).unwrap().len(), 1);
        for name in ["", "1A", "A B", "A=s3cr3t", "A\nB", "Ä"] {
            let refused = values(one(name)).unwrap_err();
            assert!(!refused.what.contains("s3cr3t"), "{}", refused.what);
        }
    }
}
