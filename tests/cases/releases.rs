//! Releases that cannot serve: each is rolled back with its own output, while the release before it serves.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use lockstep_core::plan::{Action, Plan};
use lockstep_tests::scene::restored_file::RestoredFile;
use lockstep_tests::scene::traffic::RATE;
use lockstep_tests::scene::{ENVIRONMENT, Scene};

use rustix::net::{AddressFamily, SocketType};

use crate::group::{Cases, Setup, SharedStage, deploy};

/// What is wrong with each image.
struct Bad {
    exits: String,
    hangs: String,
    errs: String,
    degraded: String,
    unhealthy: String,
    first: String,
    migrates: String,
}

struct Releases {
    scene: Scene,
    good: String,
    bad: Bad,
    _fast: RestoredFile,
}

impl Setup for Releases {
    const NAME: &'static str = "releases";
    const RATE: Option<u32> = Some(RATE);

    fn open() -> Result<Self> {
        let mut scene = Scene::open("bad")?;
        let good = scene.stage.image("1", 1, &[])?;
        let syntax = [("000002_wrong.up.sql", "CREATE TABLE half (n int);\nCREATE TABEL wrong (n int);\n")];
        let bad = Bad {
            exits: scene.stage.image("exits", 1, &[("NOTES_EXIT", "3")])?,
            hangs: scene.stage.image("hangs", 1, &[("NOTES_HEALTH", "hang")])?,
            errs: scene.stage.image("errs", 1, &[("NOTES_HEALTH", "error")])?,
            degraded: scene.stage.image("degraded", 1, &[("NOTES_HEALTH", "degraded")])?,
            unhealthy: scene.stage.image("unhealthy", 1, &[("NOTES_HEALTH", "unhealthy")])?,
            // What only a deployment that failed has used goes with the next that is good.
            first: scene.stage.image("first", 1, &[("NOTES_HEALTH", "unhealthy")])?,
            migrates: scene.stage.image_with_migrations("migrates", &good, &syntax)?,
        };
        let fast = scene.declare("timeout: 10s", "timeout: 3s")?;

        // Here, because it needs a stage on which nothing was ever deployed.
        assert_first_leaves_nothing(&scene, &bad.first).context("the first deployment unwinds to nothing")?;
        deploy(&scene, &good)?;
        Ok(Self { scene, good, bad, _fast: fast })
    }

    fn scene(&self) -> &Scene {
        &self.scene
    }
}

fn assert_first_leaves_nothing(scene: &Scene, image: &str) -> Result<()> {
    let first = scene.deploy(image)?;
    first.expect_said(1, &["unhealthy", "rolled back"])?;
    let left = scene.stage.docker.containers(&scene.stage.label())?;
    ensure!(left.is_empty(), "the first deployment left {left:?}");
    ensure!(scene.status()?.live.is_none());
    ensure!(scene.get("/").is_err(), "nginx still has the site");
    Ok(())
}

pub(crate) fn cases(shared: &SharedStage) -> Vec<Trial> {
    let mut cases = Cases::on(shared);
    that_do_not_start(&mut cases);
    that_are_not_healthy(&mut cases);
    cases.case("one that can serve", |Releases { scene, good, .. }| deploy(scene, good));
    cases.into_trials()
}

fn that_do_not_start(cases: &mut Cases<Releases>) {
    cases.rolled_back("its process ends", |Releases { scene, bad, .. }| {
        let line = "ends at once with code 3, because NOTES_EXIT says so";
        scene.deploy(&bad.exits)?.expect_said(1, &["error", "why", "next", "code 3", line])?;
        Ok(())
    });
    cases.rolled_back("its port is in use by what no plan sees", |Releases { scene, good, .. }| {
        let port = inactive_port(&scene.plan(good)?)?;
        let _bound = bind_without_listening(scene.stage.bridge(), port)?;
        scene.deploy(good)?.expect_said(1, &["error", &format!("port {port}"), "is in use", "next"])?;
        Ok(())
    });
    cases.case(
        "its port is used by another program: it gets another one",
        |Releases { scene, good, .. }| {
            let port = inactive_port(&scene.plan(good)?)?;
            let other = TcpListener::bind((scene.stage.bridge(), port))?;
            let said = scene.stage.lockstep(&["plan", ENVIRONMENT, "--image", good])?;
            said.expect_said(
                0,
                &[&format!("port {port} on app-1 is used by another program"), "gets another port"],
            )?;
            ensure!(inactive_port(&scene.plan(good)?)? != port, "it has the same port");
            scene.deploy(good)?.expect_said(0, &["succeeded"])?;
            drop(other);
            Ok(())
        },
    );
    cases.rolled_back("its migration is wrong", |Releases { scene, bad, .. }| {
        let said = scene.deploy(&bad.migrates)?;
        said.expect_said(1, &["migration 2 wrong", "syntax error", "TABEL", "it was rolled back"])?;
        let half = scene.stage.postgres.psql("SELECT count(*) FROM pg_tables WHERE tablename = 'half'")?;
        ensure!(half == "0", "half of the migration is there");
        Ok(())
    });
}

fn that_are_not_healthy(cases: &mut Cases<Releases>) {
    cases.rolled_back("its health endpoint hangs", |Releases { scene, bad, .. }| {
        scene.deploy(&bad.hangs)?.expect_said(1, &["/health", "no answer", "rolled back"])?;
        Ok(())
    });
    cases.rolled_back("its health endpoint answers 500", |Releases { scene, bad, .. }| {
        scene.deploy(&bad.errs)?.expect_said(1, &["/health", "500", "rolled back"])?;
        Ok(())
    });
    cases.rolled_back("it is degraded", |Releases { scene, bad, .. }| {
        scene.deploy(&bad.degraded)?.expect_said(1, &["200 degraded", "rolled back"])?;
        Ok(())
    });
    cases.rolled_back("it is unhealthy", |Releases { scene, bad, .. }| {
        scene.deploy(&bad.unhealthy)?.expect_said(1, &["503 unhealthy", "rolled back"])?;
        Ok(())
    });
}

/// The port that the plan gives to the web process.
/// Such a socket keeps others from the port, and is in no table of the kernel.
fn bind_without_listening(address: IpAddr, port: u16) -> Result<OwnedFd> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddr::new(address, port))?;
    Ok(socket)
}

fn inactive_port(plan: &Plan) -> Result<u16> {
    let mut ports = plan.steps().filter_map(|step| {
        let Action::StartSlot { containers, .. } = &step.action else { return None };
        containers.iter().find_map(|container| container.publish.as_ref())
    });
    ports.next().map(|publish| publish.host_port).context("the plan starts nothing with a port")
}
