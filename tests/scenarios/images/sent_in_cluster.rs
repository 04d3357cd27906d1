//! Without a registry and with two coordinators: the host that has the image has its session with one, the host that
//! lacks it with the other.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lockstep_tests::bed::program::process::{Process, built};
use lockstep_tests::bed::program::run_with_input;
use lockstep_tests::bed::server::engine::Engine;
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::cluster::{FIRST_COORDINATOR, SECOND_COORDINATOR, directory_of};
use lockstep_tests::scene::{ENVIRONMENT, Scene, TAKEOVER_LIMIT};

use super::sent_by_host::assert_same_image;

/// Where a release is deployed to; the machine's own Docker is the operator's, and that of `app-1`.
const ON_SECOND: &str = "required: [DATABASE_URL]\n    hosts: { app: [app-2], lb: [app-1], db: [app-1] }";
const ON_BOTH: &str = "hosts: { app: [app-1, app-2],";

#[test]
fn an_image_gets_to_a_host_whose_session_another_coordinator_has() -> Result<()> {
    let engine = Engine::start()?;
    let mut scene = Scene::open_in_cluster("sent-in-cluster", "0s")?;
    add_host_at_second(&mut scene, &engine)?;
    let _on_second = scene.declare("required: [DATABASE_URL]", ON_SECOND)?;
    let images = [scene.stage.image("1", 1, &[])?, scene.stage.image("2", 1, &[])?];

    // From the command line, by the coordinator that has not the host's session.
    let said = deploy_at(&scene, FIRST_COORDINATOR, &images[0])?;
    ensure!(said.contains("from this machine") && said.contains("is on app-2"), "{said}");
    ensure!(log_of(&scene, FIRST_COORDINATOR)?.contains("an operator sends an image"));
    assert_same_image(&scene, &engine, &images[0])?;

    // From the first one's host, by the second one, of which its own host asks for it.
    let _on_both = scene.declare("hosts: { app: [app-2],", ON_BOTH)?;
    let said = deploy_at(&scene, FIRST_COORDINATOR, &images[1])?;
    ensure!(said.contains("received from another host") && !said.contains("from this machine"), "{said}");
    let second = log_of(&scene, SECOND_COORDINATOR)?;
    ensure!(
        second.contains("sending an image between hosts"),
        "the second one has not passed it on:\n{second}"
    );
    assert_same_image(&scene, &engine, &images[1])?;
    ensure!(scene.sessions(FIRST_COORDINATOR)? == [1, 1], "a host has moved to another coordinator");
    Ok(())
}

/// It joins at the second one, and has its session there.
fn add_host_at_second(scene: &mut Scene, engine: &Engine) -> Result<()> {
    let stage = &mut scene.stage;
    let own = stage.directory.join("app-2");
    let token = stage.json(&["host", "token", "--name", "app-2"])?;
    let mut join = Command::new(built("lockstep-agent")?);
    join.arg("join")
        .arg("--directory")
        .arg(&own)
        .args(["--coordinator", &stage.address_of(SECOND_COORDINATOR)?]);
    join.args(["--address", &engine.address.to_string()]);
    run_with_input(&mut join, token["token"].as_str().context("there is no token")?)?;
    let sites = own.join("sites");
    fs::create_dir(&sites)?;
    let settings = format!("[nginx]\nsites = {sites:?}\n[docker]\nsocket = {:?}\n", engine.socket());
    fs::write(own.join("agent.toml"), settings)?;
    let mut agent = Command::new(built("lockstep-agent")?);
    agent.arg("run").arg("--directory").arg(&own);
    stage.hosts.push(Process::start(&mut agent, &stage.directory.join("app-2.log"))?);
    until("each coordinator has a host", TAKEOVER_LIMIT, || Ok(scene.sessions(FIRST_COORDINATOR)? == [1, 1]))
}

/// All that a coordinator has said.
fn log_of(scene: &Scene, coordinator: &str) -> Result<String> {
    Ok(fs::read_to_string(scene.stage.directory.join(format!("{}.log", directory_of(coordinator))))?)
}

fn deploy_at(scene: &Scene, coordinator: &str, image: &str) -> Result<String> {
    Ok(scene.must_at(coordinator, &["deploy", ENVIRONMENT, "--image", image])?.all())
}
