//! Releases from a registry with a login: the coordinator keeps it, a host gets it for a pull, and nothing shows it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lockstep_core::plan::Plan;
use lockstep_core::run::journal::Verdict;
use lockstep_tests::bed::program::CommandOutput;
use lockstep_tests::bed::program::run_with_input;
use lockstep_tests::bed::server::registry::Registry;
use lockstep_tests::scene::canary::{ProcessWatch, assert_files_are_clean, canaries};
use lockstep_tests::scene::credential::{add_operator, with_credential};
use lockstep_tests::scene::inventory::Inventory;
use lockstep_tests::scene::traffic::assert_none_lost;
use lockstep_tests::scene::{ENVIRONMENT, Scene};

const USER: &str = "anna";

/// With letters that two alphabets of Base64 write differently, wherever they stand.
const PASSWORD: &str = "canary-registry-?>~?>~?~>>?~~?>";

#[test]
fn a_release_comes_from_a_registry_that_wants_a_login() -> Result<()> {
    let registry = Registry::start(USER, PASSWORD)?;
    let mut scene = Scene::open("registry")?;
    let mut canaries = canaries(&scene)?;
    canaries.push(PASSWORD.to_owned());
    let watch = ProcessWatch::start(&canaries);
    let first = taken(&mut scene, &registry, ("1", 1))?;
    let second = taken(&mut scene, &registry, ("2", 2))?;

    let nobody =
        scene.deploy(&first)?.expect_said(3, &["not on app-1", "no basic auth", "registry login"])?;
    log_in(&scene, &registry, "canary-wrong")?;
    let wrong = check(&scene, &registry)?.expect_said(1, &["app-1", "no: ", "401", "refused on app-1"])?;
    let refused = scene.deploy(&first)?.expect_said(3, &["unauthorized", "registry login"])?;
    log_in(&scene, &registry, PASSWORD)?;
    let right = check(&scene, &registry)?.expect_said(0, &["app-1", "yes"])?;
    let listed = scene.stage.lockstep(&["registry", "list"])?.expect_said(0, &[&registry.name(), USER])?;

    scene.deploy(&first)?.expect_said(0, &["succeeded"])?;
    ensure!(scene.served_version()? == "1");
    let deployed = scene.deploy(&second)?.expect_said(0, &["succeeded"])?;
    ensure!(scene.served_version()? == "2");
    for said in [nobody, wrong, refused, right, listed, deployed] {
        ensure!(!said.all().contains("canary"), "a password is shown: {}", said.all());
    }
    let third = taken(&mut scene, &registry, ("3", 2))?;
    plan_as_a_reader(&scene, (&second, &third))?;
    watch.end()?;
    assert_files_are_clean(&scene, &canaries)?;
    let kept = Path::new(&std::env::var("HOME")?).join(".docker/config.json");
    let kept = fs::read_to_string(kept).unwrap_or_default();
    ensure!(!kept.contains(&registry.name()), "the host's own Docker client has a login: {kept}");
    Ok(())
}

/// What was deployed is what is pulled again, whatever its tag has become.
#[test]
fn a_release_is_pinned_by_its_manifest() -> Result<()> {
    let registry = Registry::start(USER, PASSWORD)?;
    let mut scene = Scene::open("pinned")?;
    log_in(&scene, &registry, PASSWORD)?;
    let first = taken(&mut scene, &registry, ("1", 1))?;
    let second = taken(&mut scene, &registry, ("2", 1))?;
    scene.stage.must(&["secret", "import", ENVIRONMENT])?;
    let plan = scene.plan(&first)?;
    let manifest = plan.release.manifest.clone().context("the plan has no manifest")?;
    ensure!(manifest != plan.release.image_id);
    scene.deploy(&first)?.expect_said(0, &[])?;
    scene.deploy(&second)?.expect_said(0, &[])?;
    let load = scene.stage.load(100)?;

    // The tag of the first release is moved to a third, also on this host, and the first is gone from it.
    let third = scene.stage.image("3", 1, &[])?;
    let repository = scene.stage.application.clone();
    make_cold(&scene, &plan)?;
    let moved = registry.put(&third, &format!("{repository}:1"))?;
    ensure!(moved == first);
    let before = Inventory::take(&scene)?;
    scene.stage.lockstep(&["registry", "logout", &registry.name()])?.expect_said(0, &[])?;
    let said = scene.stage.lockstep(&["rollback", ENVIRONMENT])?;
    said.expect_said(1, &["failed (anonymous)", "no basic auth", "registry login"])?;
    let failed = scene.assert_verdict(Verdict::RolledBack)?;
    ensure!(failed.steps.is_empty(), "more was done than the preflight: {:?}", failed.steps);
    before.assert_live_same(&Inventory::take(&scene)?)?;

    log_in(&scene, &registry, PASSWORD)?;
    scene.stage.lockstep(&["rollback", ENVIRONMENT])?.expect_said(0, &["succeeded"])?;
    ensure!(scene.served_version()? == "1", "it serves {}", scene.served_version()?);
    assert_none_lost(load)?;

    // Deployed by its tag it is the third, though this host knew the first by that name.
    let now = scene.plan(&first)?;
    ensure!(now.release.manifest.as_ref() != Some(&manifest), "the tag was not asked for again");
    scene.deploy(&first)?.expect_said(0, &[])?;
    ensure!(scene.served_version()? == "3");
    Ok(())
}

/// A reader causes nothing: no pull, and no use of what others have stored.
fn plan_as_a_reader(scene: &Scene, (here, elsewhere): (&str, &str)) -> Result<()> {
    let reader = add_operator(scene, "looker", "*", "read")?;
    let plan = |image: &str| with_credential(scene, &reader, &["plan", ENVIRONMENT, "--image", image]);
    plan(here)?.expect_said(0, &["no registry was asked, and no database", "already has version 2"])?;
    plan(elsewhere)?.expect_said(3, &["not on app-1", "no registry is asked for a reader"])?;
    let inspect = scene.stage.docker.docker(["image", "inspect", elsewhere]);
    ensure!(inspect.is_err(), "a reader's plan pulled {elsewhere}");
    scene.stage.lockstep(&["plan", ENVIRONMENT, "--image", elsewhere])?.expect_said(0, &[])?;
    Ok(())
}

/// A release of the example that the registry has and this host's Docker has not.
fn taken(scene: &mut Scene, registry: &Registry, (version, schema): (&str, u32)) -> Result<String> {
    let image = scene.stage.image(version, schema, &[])?;
    let there = registry.take(&image, &image)?;
    scene.stage.removes(&there);
    Ok(there)
}

/// Neither the containers nor the image of what was deployed are there any more.
fn make_cold(scene: &Scene, plan: &Plan) -> Result<()> {
    let docker = scene.stage.docker;
    for container in docker.containers(&scene.stage.label())? {
        if container.name.contains(plan.slot.as_str()) {
            docker.docker(["rm", "--force", &container.id])?;
        }
    }
    docker.docker(["image", "rm", "--force", plan.release.image_id.as_str()])?;
    Ok(())
}

fn log_in(scene: &Scene, registry: &Registry, password: &str) -> Result<()> {
    let arguments = ["registry", "login", &registry.name(), "--username", USER];
    run_with_input(&mut scene.stage.command(&arguments)?, password)?;
    Ok(())
}

fn check(scene: &Scene, registry: &Registry) -> Result<CommandOutput> {
    scene.stage.lockstep(&["registry", "check", &registry.name()])
}
