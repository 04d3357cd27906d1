//! Messages of coordinators, agents and operators, from their bytes to the model. The first byte says which message.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use lockstep_agent::session;
use lockstep_coordinator::api::control;
use lockstep_core::agent::fence::Token;
use lockstep_core::record::local_rollback::LocalRollback;
use lockstep_core::record::observed::Observation;
use lockstep_core::run::journal::StepKey;
use lockstep_core::view::printable::is_one_line;
use lockstep_proto::convert::required;
use lockstep_proto::wire::from_agent::Message as FromAgent;
use lockstep_proto::wire::to_agent::Message as ToAgent;
use lockstep_proto::wire::{self, registry_login, secrets, step_standing};
use prost::Message;

fuzz_target!(|input: &[u8]| {
    let Some((message, bytes)) = input.split_first() else { return };
    match message {
        b'A' => decoded(bytes).map(from_agent),
        b'C' => decoded(bytes).map(to_agent),
        b'P' => decoded(bytes).map(plan_request),
        b'R' => decoded::<wire::Relayed>(bytes).map(drop),
        b'F' => decoded::<wire::Followed>(bytes).map(drop),
        b'J' => decoded::<wire::JoinRequest>(bytes).map(drop),
        b'I' => decoded::<wire::ImageSent>(bytes).map(drop),
        b'W' => decoded::<wire::WatchEvent>(bytes).map(drop),
        _ => None,
    };
});

/// The message in `bytes`, which is the same after it was sent on.
fn decoded<T: Message + Default + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let message = T::decode(bytes).ok()?;
    assert_eq!(T::decode(message.encode_to_vec().as_slice()).as_ref(), Ok(&message));
    Some(message)
}

fn from_agent(message: wire::FromAgent) {
    match message.message {
        Some(FromAgent::Report(wire::Report { token, key, environment: _, outcome })) => {
            token.map(token_survives);
            key.map(key_survives);
            outcome.as_ref().map(outcome_survives);
        }
        Some(FromAgent::Standing(wire::StandingReply { token, environment: _, standings })) => {
            token.map(token_survives);
            for wire::StepStanding { key, standing } in standings {
                key.map(key_survives);
                if let Some(step_standing::Standing::Ended(outcome)) = standing {
                    outcome_survives(&outcome);
                }
            }
        }
        Some(FromAgent::Refused(wire::Refused { token, key, .. })) => {
            token.map(token_survives);
            key.map(key_survives);
        }
        Some(FromAgent::Observed(wire::Observed { observation, .. })) => {
            required::<Observation>(observation.as_ref(), "observation").ok();
        }
        Some(FromAgent::Local(wire::LocalChanged { rollback })) => {
            required::<LocalRollback>(rollback.as_ref(), "rollback").ok();
        }
        Some(_) | None => {}
    }
}

fn token_survives(token: wire::Token) {
    if let Ok(read) = Token::try_from(token.clone()) {
        assert_eq!(wire::Token::from(read), token);
    }
}

fn key_survives(key: wire::StepKey) {
    if let Ok(read) = StepKey::try_from(key.clone()) {
        assert_eq!(wire::StepKey::from(read), key);
    }
}

fn outcome_survives(outcome: &wire::Outcome) {
    if let Ok(read) = outcome.read() {
        assert_eq!(wire::Outcome::of(&read).read(), Ok(read));
    }
}

/// No log line of an agent shows a value that it was sent.
fn to_agent(message: wire::ToAgent) {
    let secret_values: Vec<String> = match &message.message {
        Some(ToAgent::Secrets(wire::Secrets {
            result: Some(secrets::Result::Variables(variables)), ..
        })) => variables.values.values().cloned().collect(),
        Some(ToAgent::Login(wire::RegistryLogin {
            result: Some(registry_login::Result::Login(login)),
            ..
        })) => {
            vec![login.password.clone()]
        }
        Some(_) | None => Vec::new(),
    };
    let is_assignment = matches!(&message.message, Some(ToAgent::Assign(_)));
    match session::fuzzing::read(message) {
        Ok(understood) => {
            for value in secret_values.iter().filter(|value| value.contains("c@nary")) {
                assert!(!understood.contains(value.as_str()), "{understood}");
            }
        }
        Err((why, answer)) => {
            assert!(!why.is_empty());
            assert!(answer.is_some() || !is_assignment, "a driver waits for the answer to an assignment");
        }
    }
}

/// What is recorded and shown of a request is one line.
fn plan_request(request: wire::PlanRequest) {
    let operator = || "anna".parse().expect("a name");
    let Ok(read) = control::fuzzing::plan_request(operator(), request) else { return };
    if let lockstep_coordinator::planning::RequestedOperation::Deploy(deploy) = read.what {
        let texts = [Some(deploy.image), deploy.commit, deploy.branch];
        for text in texts.into_iter().flatten() {
            assert!(!text.is_empty() && is_one_line(&text, 1024), "{text:?}");
        }
        let client = wire::Client { hostname: format!("{:?}", deploy.image_id), pid: 1 };
        control::fuzzing::requester(operator(), Some(client)).ok();
    }
}
