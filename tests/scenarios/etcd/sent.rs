//! Without a registry and with two coordinators: who has an image is a host of the one, and who lacks it of the other.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lockstep_core::view::coordinator::CoordinatorStatus;
use lockstep_tests::bed::engine::Engine;
use lockstep_tests::bed::process::{Process, built};
use lockstep_tests::bed::program::run_with_input;
use lockstep_tests::bed::wait::until;

use super::on_etcd::{ENVIRONMENT, LIMIT, OnEtcd};

const SECOND: &str = "c2";

/// Where a release is deployed to; the machine's own Docker is the operator's, and that of `app-1`.
const ON_SECOND: &str = "required: [DATABASE_URL]\n    hosts: { app: [app-2], lb: [app-1], db: [app-1] }";
const ON_BOTH: &str = "hosts: { app: [app-1, app-2],";

#[test]
fn an_image_gets_to_a_host_whose_session_another_coordinator_has() -> Result<()> {
    let engine = Engine::start()?;
    let mut bed = OnEtcd::start("sent", "0s")?;
    bed.stage.add_coordinator(SECOND, &bed.etcd)?;
    add_host_at_second(&mut bed, &engine)?;
    bed.declare("required: [DATABASE_URL]", ON_SECOND)?;
    let images = [bed.stage.image("1", 1, &[])?, bed.stage.image("2", 1, &[])?];

    // From the command line, by the coordinator that has not the host's session.
    let said = deploy_at(&bed, "coordinator", &images[0])?;
    ensure!(said.contains("from this machine") && said.contains("is on app-2"), "{said}");
    ensure!(told(&bed, "coordinator")?.contains("an image is sent by an operator"));
    assert_same_image(&bed, &engine, &images[0])?;

    // From the first one's host, by the second one, of which its own host asks for it.
    bed.declare("hosts: { app: [app-2],", ON_BOTH)?;
    let said = deploy_at(&bed, "coordinator", &images[1])?;
    ensure!(said.contains("it was sent by another host") && !said.contains("from this machine"), "{said}");
    let second = told(&bed, SECOND)?;
    ensure!(second.contains("an image is sent"), "the second one has not passed it on:\n{second}");
    assert_same_image(&bed, &engine, &images[1])?;
    ensure!(sessions(&bed)? == [1, 1], "a host has moved to another coordinator");
    Ok(())
}

/// It joins at the second one, and has its session there.
fn add_host_at_second(bed: &mut OnEtcd, engine: &Engine) -> Result<()> {
    let stage = &mut bed.stage;
    let own = stage.directory.join("app-2");
    let token = stage.json(&["host", "token", "--name", "app-2"])?;
    let mut join = Command::new(built("lockstep-agent")?);
    join.arg("join").arg("--directory").arg(&own).args(["--coordinator", &stage.address_of(SECOND)?]);
    join.args(["--address", &engine.address.to_string()]);
    run_with_input(&mut join, token["token"].as_str().context("there is no token")?)?;
    let sites = own.join("sites");
    fs::create_dir(&sites)?;
    let settings = format!("[nginx]\nsites = {sites:?}\n[docker]\nsocket = {:?}\n", engine.socket());
    fs::write(own.join("agent.toml"), settings)?;
    let mut agent = Command::new(built("lockstep-agent")?);
    agent.arg("run").arg("--directory").arg(&own);
    stage.hosts.push(Process::start(&mut agent, &stage.directory.join("app-2.log"))?);
    until("each coordinator has a host", LIMIT, || Ok(sessions(bed)? == [1, 1]))
}

/// How many hosts' sessions each has, by name.
fn sessions(bed: &OnEtcd) -> Result<Vec<u32>> {
    let all: Vec<CoordinatorStatus> = serde_json::from_value(bed.stage.json(&["coordinator", "list"])?)?;
    Ok(all.iter().map(|one| one.sessions).collect())
}

/// All that a coordinator has said.
fn told(bed: &OnEtcd, coordinator: &str) -> Result<String> {
    Ok(fs::read_to_string(bed.stage.directory.join(format!("{coordinator}.log")))?)
}

fn deploy_at(bed: &OnEtcd, coordinator: &str, image: &str) -> Result<String> {
    let address = bed.stage.address_of(coordinator)?;
    let said = bed.stage.must(&["--coordinator", &address, "deploy", ENVIRONMENT, "--image", image])?;
    Ok(format!("{}{}", said.stdout, said.stderr))
}

fn assert_same_image(bed: &OnEtcd, engine: &Engine, image: &str) -> Result<()> {
    let id = ["image", "inspect", "--format", "{{.Id}}", image];
    let (here, there) = (bed.stage.docker.docker(id)?, engine.docker(&id)?);
    ensure!(here == there, "{image} is {here} here and {there} there");
    Ok(())
}
