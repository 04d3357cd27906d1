//! Who deploys: an operator with a certificate, who calls as the command line does.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::run::journal::Verdict;
use lockstep_proto::dial::{self, ANSWER_BYTES_MAX, Credential};
use lockstep_proto::wire;
use lockstep_proto::wire::control_client::ControlClient;
use lockstep_proto::wire::plan_request::What;
use lockstep_proto::wire::watch_event::Event;
use tonic::transport::Channel;

use super::Place;
use lockstep_tests::bed::declaration::one_web_process;
use lockstep_tests::bed::files::write_private;

const ENVIRONMENT: &str = "fanout/production";

pub(crate) struct Operator {
    credential: Credential,
    control: ControlClient<Channel>,
}

/// How long a deployment took, from the call on.
pub(crate) struct Took {
    pub(crate) answered: Duration,
    pub(crate) ended: Duration,
}

impl Operator {
    /// With the token that waits for the first operator.
    pub(crate) async fn log_in(place: &Place) -> Result<Self> {
        let token = std::fs::read_to_string(place.coordinator().join("operator.token"))?;
        let joined = dial::join(&place.address, token.trim(), "", "").await?;
        Self::dial(joined.credential, &place.address).await
    }

    /// Keeps the credential in `directory`, where the command line finds it.
    pub(crate) fn keep(&self, directory: &Path, address: &str) -> Result<()> {
        std::fs::create_dir_all(directory)?;
        let Credential { key, certificate, authority } = &self.credential;
        let files = [("key.pem", key), ("certificate.pem", certificate), ("authority.pem", authority)];
        for (name, text) in files {
            write_private(&directory.join(name), text)?;
        }
        write_private(&directory.join("coordinator"), address)
    }

    /// After the coordinator was started again.
    pub(crate) async fn again(self, address: &str) -> Result<Self> {
        Self::dial(self.credential, address).await
    }

    async fn dial(credential: Credential, address: &str) -> Result<Self> {
        let channel = dial::connect(address, &credential).await?;
        let control = ControlClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Self { credential, control })
    }

    pub(crate) async fn host_token(&self, name: &str) -> Result<String> {
        let request = wire::HostTokenRequest { name: name.to_owned(), roles: Vec::new() };
        Ok(self.control.clone().create_host_token(request).await?.into_inner().token)
    }

    /// Deploys to `hosts`, and watches until it has ended well.
    pub(crate) async fn deploy(&self, hosts: &[String], number: usize) -> Result<Took> {
        self.deploy_to(ENVIRONMENT, hosts, &format!("fanout:{number}")).await
    }

    /// The same, to one of several environments.
    pub(crate) async fn deploy_to(&self, environment: &str, hosts: &[String], image: &str) -> Result<Took> {
        let mut control = self.control.clone();
        let asked = wire::StartRequest {
            plan: Some(wire::PlanRequest {
                environment: environment.to_owned(),
                what: Some(What::Deploy(wire::DeployAsk {
                    spec: Some(wire::Document::of_content(&one_web_process(environment, hosts)?)),
                    image: image.to_owned(),
                    commit: String::new(),
                    branch: String::new(),
                    allow_any_branch: false,
                    overwrite_site: false,
                    image_id: String::new(),
                    offered: None,
                })),
            }),
            hash: String::new(),
            claim: String::new(),
            client: Some(wire::Client { hostname: "bench".to_owned(), pid: std::process::id() }),
            grant: String::new(),
        };
        let begun = Instant::now();
        let started = control.start(asked).await?.into_inner();
        let answered = begun.elapsed();
        let deployment =
            wire::DeploymentRef { deployment: started.deployment, environment: environment.to_owned() };
        let request = wire::WatchRequest { deployment: Some(deployment), after_seq: 0 };
        let mut events = control.watch(request).await?.into_inner();
        while let Some(event) = events.message().await? {
            if let Some(Event::Summary(summary)) = event.event {
                let ended = begun.elapsed();
                let summary: DeploymentSummary = summary.read("summary")?;
                ensure!(
                    summary.verdict == Some(Verdict::Succeeded),
                    "it ended otherwise: {:?}",
                    summary.failure
                );
                return Ok(Took { answered, ended });
            }
        }
        None.context("it was watched, and its end was not told")
    }
}
