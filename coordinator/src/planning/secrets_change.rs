//! What a plan says of the secrets that it brings: by name, how they differ from those in the containers.

use lockstep_core::plan::Plan;
use lockstep_core::record::live::LiveRelease;
use tracing::warn;

use crate::ports::secrets::{Secrets, SecretsChange};

/// `None` if the containers keep their secrets, or if nothing is live.
pub(super) async fn secrets_warning(
    secrets: &dyn Secrets,
    plan: &Plan,
    live: Option<&LiveRelease>,
) -> Option<String> {
    let (before, after) = (live?.secrets_version, plan.secrets_version);
    if before == after {
        return None;
    }
    let version = |version: Option<u64>| version.map_or_else(|| "none".to_owned(), |it| it.to_string());
    let what = match secrets.changes(&plan.key, before, after).await {
        Ok(change) => in_words(&change),
        Err(error) => {
            warn!(environment = %plan.key, error = format!("{error:#}"), "cannot compare versions of the secrets");
            "which names differ is not known: a version cannot be read".to_owned()
        }
    };
    Some(format!("version {} of the secrets replaces version {}: {what}", version(after), version(before)))
}

fn in_words(SecretsChange { added, changed, removed }: &SecretsChange) -> String {
    let parts = [("changed", changed), ("added", added), ("removed", removed)];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what} {}", names.join(", ")))
        .collect();
    if parts.is_empty() { "the values are the same".to_owned() } else { parts.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_by_name() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let change = SecretsChange {
            added: names(&["NEW"]),
            changed: names(&["JWT", "TOKEN"]),
            removed: names(&["OLD"]),
        };
        assert_eq!(in_words(&change), "changed JWT, TOKEN; added NEW; removed OLD");
        assert_eq!(in_words(&SecretsChange::default()), "the values are the same");
    }
}
