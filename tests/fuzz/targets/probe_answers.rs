//! What an application answers to a probe of its health: an HTTP answer with status, headers and body.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use lockstep_agent::probe::{ProbeRequest, Reads, Scheme, send_probe};
use lockstep_core::health::{Answer, Health, declared_health};
use lockstep_core::run::limits::{ANSWER_BYTES_MAX, BODY_BYTES_SHOWN, DECLARED_BYTES_MAX};
use lockstep_core::secret::Secret;
use lockstep_core::secret::redact::Redactor;
use lockstep_fuzz::Server;

/// What the application was given, and must not be shown of its answers.
const SECRET: &str = "Correct-Horse-Battery-1";

thread_local! {
    static SERVER: Server = Server::start();
    static REDACTOR: Redactor = {
        let variables = BTreeMap::from([("TOKEN".to_owned(), Secret::new(SECRET.to_owned()))]);
        Redactor::new(&variables, &BTreeSet::new())
    };
}

fuzz_target!(|answer: &[u8]| {
    let received = SERVER.with(|server| {
        let ask = ProbeRequest {
            address: "127.0.0.1",
            port: server.port(),
            host: "notes.example",
            path: "/health",
            header: None,
            scheme: Scheme::Http,
            reads: Reads::Body,
            limit: Duration::from_secs(10),
        };
        server.answer_with(answer, send_probe(&ask))
    });
    let probe = REDACTOR.with(|redactor| received.probe.redacted(redactor)).bounded();
    assert_eq!(probe.clone().bounded(), probe);
    match &probe.answer {
        Answer::Http { status, declared, body } => {
            assert!(body.len() <= BODY_BYTES_SHOWN, "{body}");
            assert!(declared.as_ref().is_none_or(|word| word.len() <= DECLARED_BYTES_MAX), "{declared:?}");
            let is_good = (200..300).contains(status)
                && declared.as_ref().is_none_or(|word| declared_health(word) == Some(Health::Healthy));
            assert_eq!(probe.health() == Health::Healthy, is_good, "{probe}");
        }
        Answer::Nothing { why } => {
            assert!(!why.is_empty() && why.len() <= ANSWER_BYTES_MAX, "{why}");
            assert!(!why.starts_with("no answer within"), "a probe waits for what does not come");
            assert_eq!(probe.health(), Health::Unhealthy);
        }
    }
    // In other letters it is shown where the application itself has them.
    let (shown, in_small) = (probe.to_string().to_lowercase(), SECRET.to_lowercase());
    let has_small = String::from_utf8_lossy(answer).contains(&in_small);
    assert!(has_small || !shown.contains(&in_small), "{shown}");
});
