//! Taking and sending images without the right is refused: an image contains the application, and an image's name on a
//! host decides what is deployed there.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use lockstep_core::id::Digest;
use lockstep_core::spec::EnvironmentSpec;
use lockstep_core::stored::decode;
use lockstep_proto::dial::{self, Credential};
use lockstep_proto::wire;
use lockstep_proto::wire::control_client::ControlClient;
use lockstep_proto::wire::image_sent::Sent;
use lockstep_proto::wire::session_client::SessionClient;
use lockstep_tests::scene::credential::{add_operator, join_host};
use lockstep_tests::scene::restored_file::RestoredFile;
use lockstep_tests::scene::{ENVIRONMENT, Scene};
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::group::{Cases, Setup, SharedStage, deploy};

pub(crate) struct Deployed {
    pub(crate) scene: Scene,
    image: String,
    id: Digest,
    pub(crate) runtime: Runtime,
    _declared: RestoredFile,
}

impl Setup for Deployed {
    const NAME: &'static str = "image_transfer";
    const RATE: Option<u32> = None;

    fn open() -> Result<Self> {
        let mut scene = Scene::open("guard")?;
        let image = scene.stage.image("1", 1, &[])?;
        let spare = scene.stage.json(&["host", "token", "--name", "spare"])?;
        join_host(&scene, "spare", spare["token"].as_str().context("there is no token")?)?;
        let declared = scene.declare(
            "required: [DATABASE_URL]",
            "required: [DATABASE_URL]\n    hosts: { app: [app-1], lb: [app-1], db: [app-1] }",
        )?;
        deploy(&scene, &image)?;
        add_operator(&scene, "stranger", "something/*", "deploy")?;
        add_operator(&scene, "builder", &format!("{}/*", scene.stage.application), "deploy")?;
        let id = scene.stage.docker.docker(["image", "inspect", "--format", "{{.Id}}", &image])?.parse()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { scene, image, id, runtime, _declared: declared })
    }

    fn scene(&self) -> &Scene {
        &self.scene
    }
}

pub(crate) fn cases(shared: &SharedStage) -> Vec<Trial> {
    let mut cases = Cases::on(shared);
    takers(&mut cases);
    senders(&mut cases);
    cases.into_trials()
}

fn takers(cases: &mut Cases<Deployed>) {
    cases.refused(
        "a host that has no part in the deployment asks for its image",
        |Deployed { scene, id, runtime, .. }| {
            let refused = runtime.block_on(take(scene, "spare", id, ""))?;
            ensure!(refused.code() == Code::PermissionDenied, "{refused:?}");
            ensure!(refused.message().contains("not assigned to this host"), "{refused:?}");
            Ok(())
        },
    );
    cases.refused(
        "a host asks for what is sent to another, or to nobody",
        |Deployed { scene, id, runtime, .. }| {
            let refused = runtime.block_on(take(scene, "spare", id, "01JBQR2KXYZ987654321012345"))?;
            ensure!(refused.code() == Code::PermissionDenied, "{refused:?}");
            Ok(())
        },
    );
    cases.refused("a host gives what it was not asked for", |Deployed { scene, runtime, .. }| {
        let refused = runtime.block_on(async {
            let part = wire::ImagePart {
                transfer: "01JBQR2KXYZ987654321012345".to_owned(),
                bytes: b"an image".to_vec(),
                last: true,
            };
            let given =
                SessionClient::new(dial(scene, "spare").await?).give_image(tokio_stream::iter([part])).await;
            given.err().context("it was taken")
        })?;
        ensure!(refused.code() == Code::NotFound, "{refused:?}");
        Ok(())
    });
}

fn senders(cases: &mut Cases<Deployed>) {
    cases.refused(
        "an operator of another application sends an image",
        |Deployed { scene, image, id, runtime, .. }| {
            let offer = offer(scene, (image, id), "dep_01JBQR2KXYZ987654321012345")?;
            let refused = runtime.block_on(send(scene, "stranger", offer))?;
            ensure!(
                refused.code() == Code::PermissionDenied && refused.message().contains("no access"),
                "{refused:?}"
            );
            Ok(())
        },
    );
    cases.refused("an image is sent without a claim", |Deployed { scene, image, id, runtime, .. }| {
        let offer = offer(scene, (image, id), "dep_01JBQR2KXYZ987654321012345")?;
        let refused = runtime.block_on(send(scene, "builder", offer))?;
        ensure!(refused.code() == Code::FailedPrecondition, "{refused:?}");
        ensure!(refused.message().contains("has ended"), "{refused:?}");
        Ok(())
    });
    cases.refused(
        "an image is sent under another operator's claim, or by another application's name",
        |Deployed { scene, image, id, runtime, .. }| {
            let (claim, other) = runtime.block_on(async {
                let mut control = ControlClient::new(dial(scene, "operator").await?);
                let offered = offer(scene, (image, id), "")?;
                let request =
                    wire::ClaimRequest { environment: offered.environment, spec: offered.spec, client: None };
                let claim = control.claim(request).await?.into_inner().deployment;
                let refused = send(scene, "builder", offer(scene, (image, id), &claim)?).await?;
                ensure!(refused.code() == Code::Aborted, "{refused:?}");
                let other = send(scene, "operator", offer(scene, ("debian:12", id), &claim)?).await?;
                anyhow::Ok((claim, other))
            })?;
            ensure!(other.code() == Code::FailedPrecondition, "{other:?}");
            ensure!(other.message().contains("debian:12 cannot be sent"), "{other:?}");
            scene.stage.lockstep(&["cancel", ENVIRONMENT])?.expect_said(0, &["is released"])?;
            ensure!(!claim.is_empty());
            Ok(())
        },
    );
}

/// How a host that asks for an image is refused.
async fn take(scene: &Scene, host: &str, id: &Digest, transfer: &str) -> Result<Status> {
    let wanted = wire::ImageWanted { image_id: id.to_string(), transfer: transfer.to_owned() };
    let taken = SessionClient::new(dial(scene, host).await?).take_image(wanted).await;
    taken.err().context("it was given")
}

/// How an operator who sends an image is refused.
async fn send(scene: &Scene, operator: &str, offer: wire::ImageOffer) -> Result<Status> {
    let offer = wire::ImageSent { sent: Some(Sent::Offer(offer)) };
    let sent = ControlClient::new(dial(scene, operator).await?).send_image(tokio_stream::iter([offer])).await;
    sent.err().context("it was taken")
}

fn offer(scene: &Scene, (image, id): (&str, &Digest), claim: &str) -> Result<wire::ImageOffer> {
    let shown = scene.stage.must(&["--output", "json", "env", "show", ENVIRONMENT])?.stdout;
    let spec: EnvironmentSpec =
        serde_json::from_str(&shown).or_else(|_| decode(shown.trim().as_bytes())).context(shown.clone())?;
    Ok(wire::ImageOffer {
        environment: spec.key.to_string(),
        spec: Some(wire::Document::of_content(&spec)),
        claim: claim.to_owned(),
        image: image.to_owned(),
        image_id: id.to_string(),
    })
}

/// As whom the credential in this folder names.
pub(crate) async fn dial(scene: &Scene, who: &str) -> Result<Channel> {
    let folder = scene.stage.directory.join(who);
    let read = |name: &str| {
        fs::read_to_string(Path::new(&folder).join(name)).with_context(|| format!("{name} of {who}"))
    };
    let credential = Credential {
        key: read("key.pem")?,
        certificate: read("certificate.pem")?,
        authority: read("authority.pem")?,
    };
    Ok(dial::connect(&scene.stage.address_of("coordinator")?, &credential).await?)
}
