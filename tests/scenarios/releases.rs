//! Releases that cannot serve: each is taken back, with what it said, while the one before it serves on.

use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use lockstep_core::plan::{Action, Plan};

use crate::cases::Cases;
use crate::scene::{Expect, Scene, assert_none_lost};

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

#[test]
fn a_release_that_cannot_serve_is_taken_back() -> Result<()> {
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
    let _fast = scene.declare("timeout: 10s", "timeout: 3s")?;

    // The first deployment unwinds to nothing.
    let first = scene.deploy(&bad.first)?;
    first.expect_said(1, &["unhealthy", "rolled back"])?;
    let left = scene.stage.docker.containers(&scene.stage.label())?;
    ensure!(left.is_empty(), "the first deployment left {left:?}");
    ensure!(scene.status()?.live.is_none());
    ensure!(scene.get("/").is_err(), "nginx still has the site");

    scene.deploy(&good)?.expect_said(0, &[])?;
    let load = scene.stage.load(200)?;
    let mut cases = Cases::on(&scene);
    that_do_not_start(&mut cases, &bad, &good);
    that_are_not_healthy(&mut cases, &bad);
    cases.end()?;
    assert_none_lost(load)?;
    scene.deploy(&good)?.expect_said(0, &[])?;
    Ok(())
}

fn that_do_not_start(cases: &mut Cases<'_>, bad: &Bad, good: &str) {
    cases.rolled_back("its process ends", |scene| {
        let line = "ends at once with code 3, because NOTES_EXIT says so";
        scene.deploy(&bad.exits)?.expect_said(1, &["error", "why", "next", "code 3", line])?;
        Ok(())
    });
    cases.rolled_back("its port is in use", |scene| {
        let port = inactive_port(&scene.plan(good)?)?;
        let _taken = TcpListener::bind((scene.stage.bridge(), port))?;
        scene.deploy(good)?.expect_said(1, &["error", &format!("port {port}"), "is in use", "next"])?;
        Ok(())
    });
    cases.rolled_back("its migration is wrong", |scene| {
        let said = scene.deploy(&bad.migrates)?;
        said.expect_said(1, &["migration 2 wrong", "syntax error", "TABEL", "it was rolled back"])?;
        let half = scene.stage.postgres.psql("SELECT count(*) FROM pg_tables WHERE tablename = 'half'")?;
        ensure!(half == "0", "half of the migration is there");
        Ok(())
    });
}

fn that_are_not_healthy(cases: &mut Cases<'_>, bad: &Bad) {
    cases.rolled_back("its health endpoint hangs", |scene| {
        scene.deploy(&bad.hangs)?.expect_said(1, &["/health", "no answer", "rolled back"])?;
        Ok(())
    });
    cases.rolled_back("its health endpoint answers 500", |scene| {
        scene.deploy(&bad.errs)?.expect_said(1, &["/health", "500", "rolled back"])?;
        Ok(())
    });
    cases.rolled_back("it is degraded", |scene| {
        scene.deploy(&bad.degraded)?.expect_said(1, &["200 degraded", "rolled back"])?;
        Ok(())
    });
    cases.rolled_back("it is unhealthy", |scene| {
        scene.deploy(&bad.unhealthy)?.expect_said(1, &["503 unhealthy", "rolled back"])?;
        Ok(())
    });
}

/// The port that the plan gives to the web process.
fn inactive_port(plan: &Plan) -> Result<u16> {
    let mut ports = plan.steps().filter_map(|step| {
        let Action::StartSlot { containers, .. } = &step.action else { return None };
        containers.iter().find_map(|container| container.publish.as_ref())
    });
    ports.next().map(|publish| publish.host_port).context("the plan starts nothing with a port")
}
