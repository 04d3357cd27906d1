//! Two environments on one host: they share its Docker, nginx and agent, and do not affect each other.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lockstep_core::view::environment::EnvironmentStatus;
use lockstep_tests::bed::files::write_private;
use lockstep_tests::bed::ports::free_port;
use lockstep_tests::bed::program::CommandOutput;
use lockstep_tests::bed::server::docker::Docker;
use lockstep_tests::scene::background::Background;
use lockstep_tests::scene::inventory::Inventory;
use lockstep_tests::scene::traffic::assert_none_lost;
use lockstep_tests::scene::traffic::get;
use lockstep_tests::scene::traffic::version_in;
use lockstep_tests::scene::{DEPLOYMENT_LIMIT, ENVIRONMENT, Scene};

/// Another project of the same operator on the same host, with a database and a site of its own.
struct Neighbour {
    project: PathBuf,
    application: String,
    site: SocketAddr,
    docker: Docker,
}

impl Neighbour {
    fn move_in(scene: &Scene) -> Result<Self> {
        let application = format!("{}-b", scene.stage.application);
        let project = scene.stage.directory.join("neighbour");
        fs::create_dir(&project)?;
        let site = SocketAddr::new(scene.stage.site.ip(), free_port(scene.stage.site.ip())?);
        let declaration = fs::read_to_string(scene.stage.deployment_yml())?
            .replace(&format!("app: {}", scene.stage.application), &format!("app: {application}"))
            .replace(&scene.stage.site.to_string(), &site.to_string())
            .replace("/backups", "/backups-b");
        fs::write(project.join("deployment.yml"), declaration)?;
        scene.stage.postgres.psql("CREATE DATABASE neighbour OWNER notes")?;
        let url = scene.stage.postgres.url();
        let url = url.strip_suffix("/notes").context("the database is called notes")?;
        let secrets = format!("ENVIRONMENT=production\nDATABASE_URL={url}/neighbour\n");
        write_private(&project.join(".env.production"), &secrets)?;
        let neighbour = Self { project, application, site, docker: scene.stage.docker };
        let backups = scene.stage.directory.join("backups-b").display().to_string();
        let mut grant =
            neighbour.command(scene, &["env", "grant", ENVIRONMENT, "--snapshot-directory", &backups])?;
        CommandOutput::of(&mut grant)?.expect_said(0, &["may use"])?;
        Ok(neighbour)
    }

    fn command(&self, scene: &Scene, arguments: &[&str]) -> Result<Command> {
        let mut command = scene.stage.command(arguments)?;
        command.current_dir(&self.project);
        Ok(command)
    }

    fn deploy(&self, scene: &Scene, image: &str) -> Result<Background> {
        Background::start(self.command(scene, &["deploy", ENVIRONMENT, "--image", image])?)
    }

    fn status(&self, scene: &Scene) -> Result<EnvironmentStatus> {
        let output = self.command(scene, &["--output", "json", "status", ENVIRONMENT])?.output()?;
        let all: Vec<EnvironmentStatus> = serde_json::from_slice(&output.stdout)?;
        all.into_iter().next().context("the neighbour is not there")
    }

    fn served_version(&self) -> Result<String> {
        version_in(&get(self.site, "/")?)
    }
}

impl Drop for Neighbour {
    #[expect(clippy::let_underscore_must_use, reason = "a test that fails should say why, and not this")]
    fn drop(&mut self) {
        let _ = self
            .docker
            .remove_containers(&format!("lockstep.environment={}/{ENVIRONMENT}", self.application));
    }
}

#[test]
fn environments_on_one_host_do_not_meet() -> Result<()> {
    let mut scene = Scene::open("neighbours")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 2, &[])?;
    let bad = scene.stage.image("bad", 2, &[("NOTES_EXIT", "3")])?;
    let neighbour = Neighbour::move_in(&scene)?;

    // At the same time: the lock is of one environment.
    let theirs = neighbour.deploy(&scene, &second)?;
    scene.deploy(&first)?.expect_said(0, &["succeeded"])?;
    theirs.wait(DEPLOYMENT_LIMIT)?.expect_said(0, &["succeeded"])?;
    ensure!((scene.served_version()?, neighbour.served_version()?) == ("1".to_owned(), "2".to_owned()));
    let ours = scene.stage.postgres.psql("SELECT version FROM schema_migrations")?;
    ensure!(ours == "1", "the neighbour's migration was applied to our database: {ours}");
    assert_ports_differ(&scene)?;

    // Whatever the neighbour does, we are as we were.
    let load = scene.stage.load(200)?;
    let before = Inventory::take(&scene)?;
    neighbour.deploy(&scene, &bad)?.wait(DEPLOYMENT_LIMIT)?.expect_said(1, &["code 3", "rolled back"])?;
    neighbour.deploy(&scene, &first)?.wait(DEPLOYMENT_LIMIT)?.expect_said(0, &["succeeded"])?;
    ensure!(neighbour.served_version()? == "1");
    assert_ours_same(&scene, &before)?;
    assert_none_lost(load)?;
    let theirs = neighbour.status(&scene)?;
    ensure!(theirs.live.is_some_and(|live| live.release.image == first), "the neighbour is lost");
    scene.stage.lockstep(&["status"])?.expect_said(0, &[&scene.stage.application, &neighbour.application])?;
    Ok(())
}

/// All that carries our environment's label; the neighbour's name begins with ours.
fn assert_ours_same(scene: &Scene, before: &Inventory) -> Result<()> {
    let after = Inventory::take(scene)?;
    let theirs = format!("{}__b_", on_hosts(&scene.stage.application));
    // An image that only the neighbour used goes with its last deployment that needed it.
    let ours = |inventory: &Inventory| inventory.without(&theirs).without("image/");
    ours(before).assert_same(&ours(&after))
}

/// What stands for the application in the names of an environment's objects.
fn on_hosts(application: &str) -> String {
    application.replace('-', "__")
}

fn assert_ports_differ(scene: &Scene) -> Result<()> {
    let format = "{{.Names}} {{.Ports}}";
    let lines = scene.stage.docker.docker(["ps", "--format", format])?;
    let mut ports = BTreeSet::new();
    let mut published = 0;
    let ours = on_hosts(&scene.stage.application);
    for line in lines.lines().filter(|line| line.contains(&ours) && line.contains("->")) {
        published += 1;
        ports.insert(line.split("->").next().and_then(|part| part.rsplit(':').next()).map(str::to_owned));
    }
    ensure!(published == 2 && ports.len() == 2, "{lines}");
    Ok(())
}
