//! A host that has no part in an environment, with a certificate of its own, gets no secret and no login.

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use lockstep_proto::wire;
use lockstep_proto::wire::from_agent::Message as Said;
use lockstep_proto::wire::session_client::SessionClient;
use lockstep_proto::wire::to_agent::Message as Order;
use lockstep_tests::scene::Scene;
use tokio_stream::wrappers::ReceiverStream;

use crate::group::{Cases, SharedStage};
use crate::image_transfer::{Deployed, dial};

pub(crate) fn cases(shared: &SharedStage) -> Vec<Trial> {
    // The stage of those who take images: there is such a host.
    let mut cases: Cases<Deployed> = Cases::on(shared);
    cases.refused(
        "a host asks for the secrets of an environment of others",
        |Deployed { scene, runtime, .. }| {
            let environment = format!("{}/production", scene.stage.application);
            for names in [vec![], vec!["DATABASE_URL".to_owned()]] {
                let wanted =
                    wire::SecretsWanted { request: 1, environment: environment.clone(), version: 1, names };
                let answer = runtime.block_on(ask(scene, "spare", Said::SecretsWanted(wanted)))?;
                let Order::Secrets(wire::Secrets {
                    result: Some(wire::secrets::Result::Refused(why)), ..
                }) = answer
                else {
                    bail!("it was given {answer:?}")
                };
                ensure!(why.contains("no step or question that is open on this host"), "{why}");
            }
            Ok(())
        },
    );
    cases.refused(
        "a host asks for the login of a registry of others",
        |Deployed { scene, runtime, .. }| {
            let wanted = wire::LoginWanted { request: 1, registry: "ghcr.io".to_owned() };
            let answer = runtime.block_on(ask(scene, "spare", Said::LoginWanted(wanted)))?;
            let Order::Login(wire::RegistryLogin {
                result: Some(wire::registry_login::Result::Refused(why)),
                ..
            }) = answer
            else {
                bail!("it was given {answer:?}")
            };
            ensure!(why.contains("no step or question that is open on this host"), "{why}");
            Ok(())
        },
    );
    cases.into_trials()
}

/// What a coordinator answers in a session of `host`.
async fn ask(scene: &Scene, host: &str, question: Said) -> Result<Order> {
    let (outgoing, sending) = tokio::sync::mpsc::channel(2);
    let hello = wire::Hello {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        address: "127.0.0.1".to_owned(),
        clock_ms: 0,
        instance: host.to_owned(),
    };
    for message in [Said::Hello(hello), question] {
        outgoing.send(wire::FromAgent { message: Some(message) }).await?;
    }
    let stream = ReceiverStream::new(sending);
    let mut incoming = SessionClient::new(dial(scene, host).await?).attach(stream).await?.into_inner();
    loop {
        let message = incoming.message().await?.and_then(|message| message.message);
        match message.context("the session ended without an answer")? {
            answer @ (Order::Secrets(_) | Order::Login(_)) => return Ok(answer),
            Order::Welcome(_) | Order::AskVitals(_) => {}
            other @ (Order::Assign(_)
            | Order::Observe(_)
            | Order::Ask(_)
            | Order::FetchLog(_)
            | Order::LocalTakenIn(_)
            | Order::RunErrand(_)) => bail!("it was sent {other:?}"),
        }
    }
}
