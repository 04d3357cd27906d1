//! The main job: a first deployment, then an upgrade with a migration while users are served.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lockstep_core::health::Health;
use lockstep_core::plan::operation::OperationKind;
use lockstep_core::run::journal::Verdict;
use lockstep_core::slot::Slot;
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::traffic::assert_none_lost;
use lockstep_tests::scene::{ENVIRONMENT, SOON, Scene};
use serde_json::Value;

#[test]
fn a_release_is_deployed_and_upgraded_while_it_serves() -> Result<()> {
    let mut scene = Scene::open("happy")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 2, &[])?;
    let limits = "memory: 128Mi, cpus: 0.5, user: \"65534\", stop_signal: SIGINT";
    let volumes = "volumes: [\"uploads:/data\", \"/srv:/srv:ro\"]";
    let _declared = scene.declare("memory: 128Mi", &format!("{limits}, {volumes}"))?;
    scene.stage.grant(&["--path", "/srv:ro"])?;

    scene.deploy(&first)?.expect_said(0, &["succeeded"])?;
    assert_first(&scene)?;

    let load = scene.stage.load(300)?;
    scene.deploy(&second)?.expect_said(0, &["succeeded", "schema 1", "2"])?;
    let report = assert_none_lost(load)?;
    for version in ["1", "2"] {
        ensure!(report.by_version.contains_key(version), "nobody saw {version}: {:?}", report.by_version);
    }
    assert_second(&scene)?;
    assert_what_is_told(&scene, &second)?;
    assert_state(&scene)
}

fn assert_first(scene: &Scene) -> Result<()> {
    scene.assert_containers(&["web-blue running", "worker-blue running"])?;
    ensure!(scene.served_version()? == "1");
    ensure!(scene.stage.postgres.psql("SELECT version, dirty FROM schema_migrations")? == "1|f");
    let status = scene.status()?;
    let live = status.live.context("nothing is live")?;
    ensure!((live.slot, live.schema_version) == (Slot::Blue, Some(1)), "{live:?}");
    ensure!(status.open.is_none() && status.drift.is_empty(), "{:?} {:?}", status.open, status.drift);
    assert_web_container(scene, &live.deployment.to_string())
}

/// What was declared is what Docker has.
fn assert_web_container(scene: &Scene, deployment: &str) -> Result<()> {
    let containers = scene.stage.docker.containers(&scene.stage.label())?;
    let web = containers.iter().find(|there| there.name.contains("-web-")).context("there is no web")?;
    let suffix = deployment[deployment.len() - 8..].to_ascii_lowercase();
    let name = format!("ls-{}-web-blue-{suffix}", scene.object_name());
    ensure!(web.name == name, "it is called {}, and not {name}", web.name);
    let inspected: Value = serde_json::from_str(&scene.stage.docker.docker(["inspect", &web.id])?)?;
    let container = &inspected[0];
    ensure!(container["HostConfig"]["Memory"] == 128 * 1024 * 1024, "{}", container["HostConfig"]["Memory"]);
    ensure!(container["HostConfig"]["NanoCpus"] == 500_000_000, "{}", container["HostConfig"]["NanoCpus"]);
    ensure!(container["Config"]["User"] == "65534", "{}", container["Config"]["User"]);
    ensure!(container["Config"]["StopSignal"] == "SIGINT", "{}", container["Config"]["StopSignal"]);
    ensure!(container["Config"]["StopTimeout"] == 5, "{}", container["Config"]["StopTimeout"]);
    let binds = container["HostConfig"]["Binds"].to_string();
    for bind in [format!("{}:/data:rw", scene.object_name().volume("uploads")), "/srv:/srv:ro".to_owned()] {
        ensure!(binds.contains(&bind), "{bind} is not among {binds}");
    }
    ensure!(container["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped");
    let bindings = &container["HostConfig"]["PortBindings"]["8080/tcp"][0];
    ensure!(bindings["HostIp"] == scene.stage.bridge().to_string(), "{bindings}");
    let labels: BTreeMap<String, String> = serde_json::from_value(container["Config"]["Labels"].clone())?;
    let wanted = [
        ("lockstep.environment", format!("{}/{ENVIRONMENT}", scene.stage.application)),
        ("lockstep.slot", "blue".to_owned()),
        ("lockstep.process", "web".to_owned()),
        ("lockstep.deployment", deployment.to_owned()),
    ];
    for (key, value) in wanted {
        ensure!(labels.get(key) == Some(&value), "{key} is {:?}, and not {value}", labels.get(key));
    }
    ensure!(labels.contains_key("lockstep.spec"), "it could not be recognised: {labels:?}");
    Ok(())
}

/// The old slot stays warm, but its worker does not run beside the new one.
fn assert_second(scene: &Scene) -> Result<()> {
    scene.assert_containers(&[
        "web-blue running",
        "web-green running",
        "worker-blue exited",
        "worker-green running",
    ])?;
    ensure!(scene.served_version()? == "2");
    ensure!(scene.stage.postgres.psql("SELECT version, dirty FROM schema_migrations")? == "2|f");
    let twice = scene.stage.postgres.psql("SELECT count(*) FROM jobs WHERE runs > 1")?;
    ensure!(twice == "0", "{twice} jobs ran more than once");
    let folder = format!("backups/{}", scene.object_name());
    let snapshots = fs::read_dir(scene.stage.directory.join(folder))?.count();
    ensure!(snapshots == 2, "there are {snapshots} snapshots, one for each migration");
    Ok(())
}

fn assert_what_is_told(scene: &Scene, second: &str) -> Result<()> {
    let last = scene.assert_verdict(Verdict::Succeeded)?;
    ensure!(last.kind == OperationKind::Deploy && last.release.image == second, "{last:?}");
    ensure!((last.schema_before, last.schema_after) == (Some(1), Some(2)), "{last:?}");
    ensure!(last.receipt.migrations_run == 1 && last.receipt.snapshot.is_some(), "{:?}", last.receipt);
    let host = last.receipt.snapshot.as_ref().map(|snapshot| snapshot.host.to_string());
    ensure!(host.as_deref() == Some("app-1"), "the snapshot is on {host:?}");
    ensure!(last.receipt.requests_lost == Some(0), "{:?}", last.receipt);
    ensure!(last.receipt.requests.is_some_and(|requests| requests > 0), "{:?}", last.receipt);
    let id = last.id.to_string();
    let status = scene.status()?;
    let live = status.live.context("nothing is live")?;
    ensure!(live.slot == Slot::Green && live.deployment == last.id, "{live:?}");
    ensure!(status.rollback.is_some_and(|ready| ready.takes.is_some()), "the rollback is not ready");
    // Reported continuously, so it is there in a moment.
    until("every instance is reported healthy", SOON, || {
        let hosts = scene.status()?.hosts;
        let instances: Vec<Health> =
            hosts.iter().flat_map(|host| &host.instances).map(|instance| instance.health).collect();
        Ok(instances.len() >= 2 && instances.iter().all(|health| *health == Health::Healthy))
    })?;

    scene.stage.lockstep(&["status", ENVIRONMENT])?.expect_said(0, &["green", second])?;
    scene.stage.lockstep(&["history", ENVIRONMENT])?.expect_said(0, &["succeeded", second, "admin"])?;
    let steps = ["preflight", "snapshot", "migrate", "start", "health", "switch", "workers", "bake", "drain"];
    scene.stage.lockstep(&["show", &id])?.expect_said(0, &steps)?;
    // A prefix that means one deployment is enough.
    scene.stage.lockstep(&["show", &id[..id.len() - 4]])?.expect_said(0, &["switch"])?;
    Ok(())
}

/// T2: the seed's file, by the schema that is published.
fn assert_state(scene: &Scene) -> Result<()> {
    let state = scene.stage.must(&["state", "export", ENVIRONMENT])?.stdout;
    let state: Value = serde_json::from_str(&state).with_context(|| format!("not JSON: {state}"))?;
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("deploy/schema/deployment-state.schema.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
    let validator = jsonschema::validator_for(&schema)?;
    let problems: Vec<String> =
        validator.iter_errors(&state).map(|error| format!("{}: {error}", error.instance_path)).collect();
    ensure!(problems.is_empty(), "the state is not valid: {problems:?}\n{state:#}");
    ensure!(state["lock"]["locked"] == false, "{}", state["lock"]);
    ensure!(state["current_deployment"]["active_slot"] == "green", "{}", state["current_deployment"]);
    ensure!(state["current_deployment"]["migrations_run"] == 1, "{}", state["current_deployment"]);
    ensure!(state["previous_deployment"]["active_slot"] == "blue", "{}", state["previous_deployment"]);
    let broken = serde_json::json!({ "environment": ENVIRONMENT, "lock": {} });
    ensure!(!validator.is_valid(&broken), "the schema takes anything");
    Ok(())
}
