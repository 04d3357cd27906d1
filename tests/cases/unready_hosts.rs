//! Hosts that are not ready: the refusal names the host and the fault, and what serves is not touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use lockstep_tests::bed::program::run;
use lockstep_tests::scene::Scene;
use lockstep_tests::scene::restored_file::{RestoredFile, replace};
use lockstep_tests::scene::traffic::RATE;

use crate::group::{Cases, Setup, SharedStage, deploy};

struct Deployed {
    scene: Scene,
    second: String,
}

impl Setup for Deployed {
    const NAME: &'static str = "unready_hosts";
    const RATE: Option<u32> = Some(RATE);

    fn open() -> Result<Self> {
        let mut scene = Scene::open("unready")?;
        let first = scene.stage.image("1", 1, &[])?;
        let second = scene.stage.image("2", 2, &[])?;
        deploy(&scene, &first)?;
        Ok(Self { scene, second })
    }

    fn scene(&self) -> &Scene {
        &self.scene
    }
}

pub(crate) fn cases(shared: &SharedStage) -> Vec<Trial> {
    let mut cases = Cases::on(shared);
    databases(&mut cases);
    disks_and_nginx(&mut cases);
    cases.case("an agent without Docker", |Deployed { scene, second }| without_docker(scene, second));
    cases.case("a host that is ready again", |Deployed { scene, second }| deploy(scene, second));
    cases.into_trials()
}

fn databases(cases: &mut Cases<Deployed>) {
    cases.refused("a dirty schema", |Deployed { scene, second }| {
        scene.stage.postgres.psql("UPDATE schema_migrations SET dirty = true")?;
        let said = scene.deploy(second)?;
        let words = ["dirty at version 1", "why", "UPDATE schema_migrations"];
        let found = said.expect_said(3, &words);
        scene.stage.postgres.psql("UPDATE schema_migrations SET dirty = false")?;
        found.map(|_| ())
    });
    cases.refused("a database that does not answer", |Deployed { scene, second }| {
        let port = scene.stage.postgres.port().to_string();
        let _secrets = replace(&scene.stage.env_file(), &port, "9")?;
        scene
            .deploy(second)?
            .expect_said(3, &["cannot read the database", "app-1", "refused", "DATABASE_URL"])?;
        Ok(())
    });
    cases.refused("a wrong password", |Deployed { scene, second }| {
        let _secrets = replace(&scene.stage.env_file(), "notes:", "notes:x")?;
        let said = scene.deploy(second)?.expect_said(3, &["password authentication failed", "notes"])?;
        ensure!(!said.stderr.contains("notes:x"), "the URL is shown: {}", said.stderr);
        Ok(())
    });
}

fn disks_and_nginx(cases: &mut Cases<Deployed>) {
    cases.rolled_back("a disk without room for the snapshot", |Deployed { scene, second }| {
        let disk = SmallDisk::mount(&scene.stage.directory.join("small"))?;
        let backups = scene.stage.directory.join("backups");
        let _declared = scene.declare(&backups.display().to_string(), &disk.path.display().to_string())?;
        scene.stage.grant(&["--snapshot-directory", &disk.path.display().to_string()])?;
        let said = scene.deploy(second)?;
        said.expect_said(
            1,
            &["too full for a snapshot", &disk.path.display().to_string(), "free some space"],
        )?;
        let left = fs::read_dir(&disk.path)?.count();
        ensure!(left == 0, "half a snapshot was left on the disk");
        Ok(())
    });
    cases.rolled_back("nginx's configuration was broken by hand", |Deployed { scene, second }| {
        let configuration = scene.stage.nginx.configuration();
        let _kept = RestoredFile::keep(&configuration)?;
        let text = fs::read_to_string(&configuration)?;
        fs::write(&configuration, format!("{text}\nlorem ipsum;\n"))?;
        scene.deploy(second)?.expect_said(1, &["nginx", "unknown directive", "lorem", "nginx.conf"])?;
        Ok(())
    });
}

fn without_docker(scene: &mut Scene, second: &str) -> Result<()> {
    let settings = scene.stage.directory.join("agent/agent.toml");
    let socket = scene.stage.directory.join("no-docker.sock").display().to_string();
    let kept = RestoredFile::keep(&settings)?;
    let text = fs::read_to_string(&settings)?;
    fs::write(&settings, format!("{text}[docker]\nsocket = {socket:?}\n"))?;
    restart_agent(scene)?;
    scene.deploy(second)?.expect_said(3, &["Docker", &socket, "next"])?;
    ensure!(scene.served_version()? == "1");
    ensure!(scene.status()?.open.is_none());
    drop(kept);
    restart_agent(scene)
}

fn restart_agent(scene: &mut Scene) -> Result<()> {
    scene.stage.agent.stop()?;
    scene.stage.start_agent(&[])?;
    scene.stage.wait_for_agent()
}

/// A file system of its own, too small for anything.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(path: &Path) -> Result<Self> {
        fs::create_dir(path)?;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=4k", "tmpfs"]).arg(path))?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for SmallDisk {
    #[expect(clippy::let_underscore_must_use, reason = "a test that fails should say why, and not this")]
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg(&self.path));
        let _ = fs::remove_dir(&self.path);
    }
}
