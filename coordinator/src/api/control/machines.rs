//! Create and renew the tokens of machines.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::access::EnvironmentPattern;
use lockstep_core::access::machine::{MachineLimits, Verb};
use lockstep_core::name::{EnvironmentKey, OperatorName};
use lockstep_core::plan::operation::Refusal;
use lockstep_core::time::Millis;
use lockstep_proto::Invalid;
use lockstep_proto::wire::{self, Done};
use tonic::Status;

use super::convert::{option_text, refuse_reserved};
use super::failure::{refused, store_status};
use super::{Caller, ControlApi};
use crate::identity::operators::{self, Operator, OperatorStanding};
use crate::identity::tokens::{self, TokenHolder};
use crate::store::{Committed, Write, keys};

/// The shortest and the longest life of a token.
const LIFE: (Millis, Millis) = (Millis::from_secs(3600), Millis::from_secs(400 * 24 * 3600));

const REPOSITORY_CHARACTERS_MAX: usize = 255;

pub(super) async fn create(
    api: &ControlApi,
    caller: &Caller,
    request: wire::MachineTokenRequest,
) -> Result<wire::TokenReply, Status> {
    let wire::MachineTokenRequest { name, environment, verbs, repository, branch, life_ms } = request;
    let name: OperatorName = name.parse().map_err(|error| Invalid::because("name", error))?;
    let environment: EnvironmentKey =
        environment.parse().map_err(|error| Invalid::because("environment", error))?;
    let verbs: Result<BTreeSet<Verb>, String> = verbs.iter().map(|verb| verb.parse()).collect();
    let verbs = verbs.map_err(|error| Invalid::because("verbs", error))?;
    if verbs.is_empty() {
        return Err(Invalid::missing("verbs").into());
    }
    let other = |options: &str| format!("lockstep token create {name} --env {environment} {options}");
    let text = |option: &'static str, text: String, example: &str| {
        let next = other(&format!("{option} {example}"));
        option_text((option, text), REPOSITORY_CHARACTERS_MAX, next)
    };
    let repository = text("--repository", repository, "ghcr.io/anna/notes")?;
    let branch = text("--branch", branch, "main")?;
    let life = Millis(life_ms);
    let expires = api.context.clock.now() + life;
    let machine = MachineLimits { verbs, repository, branch, expires };
    let environments = EnvironmentPattern::One(environment.clone());
    refuse_life(life, || machine.create_command(&name, &environments))?;
    refuse_reserved(&name, format!("lockstep token create NAME --env {environment}"))?;
    let said = describe(&name, &environment, &machine);
    let store = &*api.context.store;
    let found = operators::find_guarded(store, &name).await;
    let (before, unchanged) = found.map_err(|error| store_status(&error))?;
    if let Some(before) = before.filter(|operator| operator.standing == OperatorStanding::Active) {
        let (why, next) = match before.machine {
            Some(_) => (
                "it has one already",
                format!(
                    "lockstep token renew {name}    # the same token for longer; for another one: lockstep token revoke {name}"
                ),
            ),
            None => (
                "an operator has this name",
                format!("lockstep operator revoke {name}    # or use another name"),
            ),
        };
        let what = format!("cannot create a token for {name}");
        return Err(refused(&Refusal { what, why: why.to_owned(), next }));
    }
    let (token, guard, write) =
        tokens::new(&api.authority.pin(), TokenHolder::Machine { name: name.clone() }, expires)
            .map_err(|error| Status::internal(error.to_string()))?;
    let operator = Operator {
        name,
        environments,
        role: machine.role(),
        certificate_expires: expires,
        certificates: BTreeMap::new(),
        standing: OperatorStanding::Active,
        machine: Some(machine),
    };
    let writes = vec![write, Write::put(keys::operator(&operator.name), &operator)];
    match store.commit(vec![guard, unchanged], writes).await.map_err(|error| store_status(&error))? {
        Committed::Yes { .. } => {
            api.audit(caller, "create token", Some(&environment), said).await?;
            Ok(wire::TokenReply { token: token.expose(), expires_ms: expires.0 })
        }
        Committed::No => Err(meanwhile(&operator.name)),
    }
}

/// The same token, for longer: whoever has it need not be given another.
pub(super) async fn renew(
    api: &ControlApi,
    caller: &Caller,
    request: wire::RenewMachineTokenRequest,
) -> Result<Done, Status> {
    let name: OperatorName = request.name.parse().map_err(|error| Invalid::because("name", error))?;
    let life = Millis(request.life_ms);
    refuse_life(life, || format!("lockstep token renew {name}"))?;
    let expires = api.context.clock.now() + life;
    let store = &*api.context.store;
    let found = operators::find_guarded(store, &name).await;
    let (operator, unchanged) = found.map_err(|error| store_status(&error))?;
    let extension = tokens::extension(store, &name, expires).await.map_err(|error| store_status(&error))?;
    let (operator, (guard, write)) = match (operator, extension) {
        (Some(operator), Some(extension)) => (operator, extension),
        (operator, _) => return Err(not_renewed(&name, operator.as_ref())),
    };
    let machine = operator.machine.clone().map(|machine| MachineLimits { expires, ..machine });
    let operator = Operator { machine, certificate_expires: expires, ..operator };
    let writes = vec![write, Write::put(keys::operator(&name), &operator)];
    match store.commit(vec![guard, unchanged], writes).await.map_err(|error| store_status(&error))? {
        Committed::Yes { .. } => {
            let said = format!("the token of {name} is good until {expires}");
            api.audit(caller, "renew token", None, said).await
        }
        Committed::No => Err(meanwhile(&name)),
    }
}

fn not_renewed(name: &OperatorName, operator: Option<&Operator>) -> Status {
    let machine = operator.and_then(|operator| Some((operator, operator.machine.as_ref()?)));
    let (why, next) = match machine {
        Some((operator, limits)) => (
            "there is none any more: it has expired, or was revoked",
            format!("{}    # another one like it", limits.create_command(name, &operator.environments)),
        ),
        None => ("no machine has this name", "lockstep token list".to_owned()),
    };
    let what = format!("cannot renew the token of {name}");
    refused(&Refusal { what, why: why.to_owned(), next })
}

/// What a list says of a machine; nothing of an operator.
pub(super) fn record(operator: &Operator) -> Option<wire::MachineRecord> {
    let MachineLimits { verbs, repository, branch, expires } = operator.machine.as_ref()?;
    Some(wire::MachineRecord {
        verbs: verbs.iter().map(Verb::to_string).collect(),
        repository: repository.clone().unwrap_or_default(),
        branch: branch.clone().unwrap_or_default(),
        expires_ms: expires.0,
    })
}

/// `command` is the one that was run, without its life.
fn refuse_life(life: Millis, command: impl FnOnce() -> String) -> Result<(), Status> {
    let (shortest, longest) = LIFE;
    if (shortest..=longest).contains(&life) {
        return Ok(());
    }
    Err(refused(&Refusal {
        what: format!("a token cannot be good for {life}"),
        why: "it is good for at least 1h and at most 400d".to_owned(),
        next: format!("{} --for 90d", command()),
    }))
}

fn describe(name: &OperatorName, environment: &EnvironmentKey, machine: &MachineLimits) -> String {
    let MachineLimits { verbs, repository, branch, expires } = machine;
    let verbs: Vec<String> = verbs.iter().map(Verb::to_string).collect();
    let of = |what: &str, value: &Option<String>| {
        value.as_ref().map_or_else(String::new, |value| format!(", {what} {value}"))
    };
    format!(
        "{name} may {} in {environment}{}{}, until {expires}",
        verbs.join(", "),
        of("images of", repository),
        of("the branch", branch)
    )
}

fn meanwhile(name: &OperatorName) -> Status {
    Status::aborted(format!("{name} was changed meanwhile: try again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_that_no_token_has_is_refused_in_the_words_of_the_option() {
        let (shortest, longest) = LIFE;
        let life = |millis: u64| refuse_life(Millis(millis), || "lockstep token renew ci".to_owned());
        assert!(life(shortest.0).is_ok() && life(longest.0).is_ok());
        for millis in [0, shortest.0 - 1, longest.0 + 1, u64::MAX] {
            let status = life(millis).unwrap_err();
            let refusal: Refusal = lockstep_core::stored::decode(status.details()).unwrap();
            assert_eq!(refusal.next, "lockstep token renew ci --for 90d");
            assert!(!refusal.to_string().contains("life_ms"), "{refusal}");
        }
    }
}
