//! What leaves of real deployments, and that a collector that is away costs nothing.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use data_encoding::HEXLOWER;
use lockstep_tests::bed::ports::free_port;
use lockstep_tests::bed::program::CommandOutput;
use lockstep_tests::bed::server::certificates::Certificates;
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::Scene;

use super::collector::{Collector, Seen, SeenSpan};

const COORDINATOR: &str = "lockstep-coordinator";
const AGENT: &str = "lockstep-agent";

/// The trace and the span that the command line is called in.
const CALLER_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER_SPAN: &str = "00f067aa0ba902b7";

const SECRET: &str = "canary-otlp-jwt-5f2c91";
/// The example says what it does not understand, and ends: a release that prints its secret.
const PRINTED: &str = "canary-otlp-printed-77ab03";

/// Every attribute that a span may have.
const SPAN_ATTRIBUTES: [&str; 7] = [
    "deployment.environment.name",
    "deployment.id",
    "lockstep.host.id",
    "lockstep.outcome",
    "lockstep.step.direction",
    "lockstep.step.id",
    "lockstep.step.kind",
];

/// Metrics leave every 15 seconds.
const LIMIT: Duration = Duration::from_secs(60);

const AWAY: &str = "the collector does not accept traces and metrics";
const BACK: &str = "the collector accepts traces and metrics again";

/// A scene whose services export to a collector.
fn open(name: &str, telemetry: &str, bake: &'static str) -> Result<Scene> {
    let mut scene = Scene::open_with_bake(name, bake)?;
    let stage = &mut scene.stage;
    for file in ["coordinator/coordinator.toml", "agent/agent.toml"] {
        let mut file = OpenOptions::new().create(true).append(true).open(stage.directory.join(file))?;
        writeln!(file, "[telemetry]\n{telemetry}")?;
    }
    stage.agent.stop()?;
    stage.coordinator.stop()?;
    stage.start_coordinator(&[])?;
    stage.start_agent(&[])?;
    stage.wait_for_agent()?;
    Ok(scene)
}

fn deploy(scene: &Scene, image: &str, code: i32) -> Result<String> {
    lockstep(scene, &["deploy", "production", "--image", image], code)
}

/// What the command line said, called in a trace.
fn lockstep(scene: &Scene, arguments: &[&str], code: i32) -> Result<String> {
    let mut command = scene.stage.command(arguments)?;
    command.env("TRACEPARENT", format!("00-{CALLER_TRACE}-{CALLER_SPAN}-01"));
    Ok(CommandOutput::of(&mut command)?.expect_said(code, &[])?.all())
}

fn log_of(scene: &Scene, service: &str) -> Result<String> {
    Ok(fs::read_to_string(scene.stage.directory.join(format!("{service}.log")))?)
}

fn somewhere() -> Result<SocketAddr> {
    let host = [127, 0, 0, 1].into();
    Ok(SocketAddr::new(host, free_port(host)?))
}

#[test]
fn a_deployment_is_one_trace_over_both_services_and_is_counted() -> Result<()> {
    let address = somewhere()?;
    let collector = Collector::listen(address, None)?;
    let mut scene = open("trace", &format!("otlp = \"http://{address}\""), "1s")?;
    let _quick = scene.declare("timeout: 10s", "timeout: 3s")?;
    let image = scene.stage.image("1", 1, &[])?;
    let _jwt = scene.write_secrets(&format!("JWT_SECRET={SECRET}\n"))?;
    deploy(&scene, &image, 0)?;
    let _prints = scene.write_secrets(&format!("NOTES_HEALTH={PRINTED}\n"))?;
    let failed = deploy(&scene, &image, 1)?;
    // Something stood there: the canary was in the failure's text before it was taken out.
    ensure!(failed.contains("NOTES_HEALTH is") && failed.contains("***"), "{failed}");

    until("both deployments have left", LIMIT, || {
        Ok(collector.seen().spans.iter().filter(|span| span.name == "deployment").count() == 2)
    })?;
    // What is left leaves with their end.
    scene.stage.agent.stop()?;
    scene.stage.coordinator.stop()?;
    let seen = collector.seen();
    assert_traces(&seen)?;
    assert_metrics(&seen, &format!("{}/production", scene.stage.application))?;
    for canary in [SECRET, PRINTED] {
        let is_there = seen.bytes.windows(canary.len()).any(|bytes| bytes == canary.as_bytes());
        ensure!(!is_there, "{canary} has left");
    }
    Ok(())
}

fn assert_traces(seen: &Seen) -> Result<()> {
    let started = named(seen, COORDINATOR, "start");
    let deployments = named(seen, COORDINATOR, "deployment");
    ensure!(started.len() == 2 && deployments.len() == 2, "{started:?} {deployments:?}");
    for start in &started {
        ensure!(HEXLOWER.encode(&start.parent) == CALLER_SPAN, "not the caller's: {start:?}");
    }
    let outcomes: Vec<bool> = deployments.iter().map(|deployment| deployment.is_error).collect();
    ensure!(outcomes == [false, true], "{deployments:?}");
    let handed = named(seen, COORDINATOR, "step");
    let done = named(seen, AGENT, "step");
    for deployment in &deployments {
        ensure!(
            started.iter().any(|start| start.id == deployment.parent),
            "no call has opened {deployment:?}"
        );
        let steps: Vec<_> = handed.iter().filter(|step| step.parent == deployment.id).collect();
        ensure!(steps.len() >= 5, "{steps:?}");
        for step in &steps {
            let carried: Vec<_> = done.iter().filter(|done| done.parent == step.id).collect();
            let [carried] = carried.as_slice() else {
                anyhow::bail!("carried out as {carried:?}: {step:?}");
            };
            for name in
                ["lockstep.step.id", "lockstep.step.kind", "lockstep.step.direction", "lockstep.outcome"]
            {
                ensure!(value(carried, name).is_some(), "no {name}: {carried:?}");
                ensure!(value(carried, name) == value(step, name), "{carried:?} is not {step:?}");
            }
            ensure!(value(carried, "deployment.id") == value(deployment, "deployment.id"), "{carried:?}");
        }
    }
    for step in &done {
        ensure!(handed.iter().any(|handed| handed.id == step.parent), "nobody handed out {step:?}");
    }
    let is_failed = |span: &&SeenSpan| span.is_error && value(span, "lockstep.outcome") == Some("failed");
    ensure!(done.iter().any(|span| is_failed(&span)), "no step of the agent has failed");
    for span in &seen.spans {
        ensure!(HEXLOWER.encode(&span.trace) == CALLER_TRACE, "of another trace: {span:?}");
        let names = span.attributes.iter().filter_map(|word| word.split_once('=')).map(|(name, _)| name);
        let other: BTreeSet<&str> = names.filter(|name| !SPAN_ATTRIBUTES.contains(name)).collect();
        ensure!(other.is_empty(), "{other:?} have left with {}", span.name);
    }
    Ok(())
}

fn assert_metrics(seen: &Seen, environment: &str) -> Result<()> {
    let last = |service: &str, name: &str, attributes: &[&str]| {
        let mut points =
            seen.points.iter().rev().filter(|point| {
                point.service == service && point.name == name && point.attributes == attributes
            });
        points.next().with_context(|| format!("no {name} {attributes:?}: {:#?}", seen.points))
    };
    let environment = format!("deployment.environment.name={environment}");
    for outcome in ["lockstep.outcome=succeeded", "lockstep.outcome=rolled_back"] {
        let attributes = [environment.as_str(), "lockstep.operation=deploy", outcome];
        let ended = last(COORDINATOR, "lockstep.deployments", &attributes)?;
        ensure!((ended.count, ended.unit.as_str()) == (1, "{deployment}"), "{ended:?}");
        let took = last(COORDINATOR, "lockstep.deployment.duration", &attributes)?;
        ensure!((took.count, took.unit.as_str()) == (1, "s"), "{took:?}");
    }
    let switched = ["lockstep.outcome=done", "lockstep.step.direction=do", "lockstep.step.kind=switch"];
    for (service, name) in [(COORDINATOR, "lockstep.step.duration"), (AGENT, "lockstep.agent.step.duration")]
    {
        let steps = last(service, name, &switched)?;
        ensure!((steps.count, steps.unit.as_str()) == (1, "s"), "{steps:?}");
    }
    last(COORDINATOR, "lockstep.agents.connected", &[])?;
    Ok(())
}

fn named(seen: &Seen, service: &str, name: &str) -> Vec<SeenSpan> {
    seen.spans.iter().filter(|span| span.service == service && span.name == name).cloned().collect()
}

fn value<'a>(span: &'a SeenSpan, name: &str) -> Option<&'a str> {
    span.attributes.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

#[test]
fn a_deployment_that_is_taken_over_stays_in_its_trace() -> Result<()> {
    let address = somewhere()?;
    let collector = Collector::listen(address, None)?;
    let mut scene = open("taken", &format!("otlp = \"http://{address}\""), "6s")?;
    let image = scene.stage.image("1", 1, &[])?;
    lockstep(&scene, &["deploy", "production", "--image", &image, "--detach"], 0)?;
    until("it bakes", LIMIT, || Ok(lockstep(&scene, &["status", "production"], 0)?.contains("bake")))?;
    scene.stage.coordinator.kill()?;
    scene.stage.start_coordinator(&[])?;
    until("it has ended", LIMIT, || Ok(!named(&collector.seen(), COORDINATOR, "deployment").is_empty()))?;
    scene.stage.agent.stop()?;
    scene.stage.coordinator.stop()?;

    let seen = collector.seen();
    let deployments = named(&seen, COORDINATOR, "deployment");
    let [deployment] = deployments.as_slice() else {
        anyhow::bail!("the dead driver's span cannot have left: {deployments:?}");
    };
    ensure!(value(deployment, "lockstep.outcome") == Some("succeeded"), "{deployment:?}");
    for span in &seen.spans {
        ensure!(HEXLOWER.encode(&span.trace) == CALLER_TRACE, "of another trace: {span:?}");
    }
    let carried_out = named(&seen, AGENT, "step");
    let of_it: BTreeSet<_> = carried_out.iter().map(|step| value(step, "deployment.id")).collect();
    ensure!(of_it == BTreeSet::from([value(deployment, "deployment.id")]), "{of_it:?}");
    let environment = format!("deployment.environment.name={}/production", scene.stage.application);
    let taken = seen.points.iter().rev().find(|point| point.name == "lockstep.lock.takeovers");
    let taken = taken.context("no take-over was counted")?;
    ensure!((taken.count, &taken.attributes) == (1, &vec![environment]), "{taken:?}");
    Ok(())
}

#[test]
fn a_collector_that_is_away_is_said_once_and_costs_nothing() -> Result<()> {
    let address = somewhere()?;
    let directory = tempfile::tempdir()?;
    let certificates = Certificates::make(directory.path(), "collector")?;
    let telemetry = format!("otlp = \"https://{address}\"\nca = {:?}", certificates.authority);
    let mut scene = open("away", &telemetry, "1s")?;
    let first = scene.stage.image("1", 1, &[])?;
    let second = scene.stage.image("2", 1, &[])?;
    deploy(&scene, &first, 0)?;
    deploy(&scene, &second, 0)?;
    for service in ["coordinator", "agent"] {
        until("it is said", LIMIT, || Ok(log_of(&scene, service)?.contains(AWAY)))?;
    }
    // A batch leaves each second while there is something to send: by now several have failed.
    let collector = Collector::listen(address, Some(&certificates))?;
    for service in ["coordinator", "agent"] {
        until("it is said that it is back", LIMIT, || Ok(log_of(&scene, service)?.contains(BACK)))?;
        let log = log_of(&scene, service)?;
        let said = |what: &str| log.matches(what).count();
        ensure!((said(AWAY), said(BACK)) == (1, 1), "{log}");
    }
    let seen = collector.seen();
    ensure!(!seen.spans.is_empty() || !seen.points.is_empty(), "it was said to be back and is not");
    Ok(())
}
