//! What one coordinator does with many environments on ten hosts: `lockstep status` of all of them, `lockstep plan` of
//! one of them beside the same plan where it is alone, and what they cost while nothing happens.
//!
//! The hosts are simulated and remember which containers they were told to start, so that a status finds what is
//! recorded. The commands are the real command line; there is no Docker on its `PATH`, because looking for an image on
//! this machine is the same for all.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::case::{Case, Extent};
use crate::report::{Limit, Measured};
use crate::resources::rss_mib;
use crate::simulated::host::{self, Connected, Memory};
use crate::simulated::operator::Operator;
use crate::simulated::{Place, idle, rest, runtime};
use crate::statistics::median;
use lockstep_tests::bed::program::process::{Process, built};
use lockstep_tests::bed::program::run;
use lockstep_tests::bed::stage::Record;

/// One coordinator has one environment, one a tenth of the most, and one the most.
const SIZES: usize = 3;

const HOSTS: usize = 10;

/// Deployments of each environment, and of the one that is planned: more than it keeps images, so that the plan asks
/// which of the older ones another environment keeps.
const DEPLOYMENTS: usize = 2;
const DEPLOYMENTS_OF_PLANNED: usize = 8;

/// How many environments are deployed to at a time.
const AT_A_TIME: usize = 16;

const ROUNDS: usize = 11;

/// After this long, what the deployments have brought about is over.
const REST: Duration = Duration::from_secs(5);

const WINDOW: Duration = Duration::from_secs(30);

/// A coordinator with so many environments.
struct Cluster {
    environments: usize,
    place: Place,
    project: PathBuf,
    coordinator: Process,
    _hosts: Connected,
}

/// What the commands took, by size.
type Times = [Vec<f64>; SIZES];

pub(super) fn measure(directory: &Path, extent: Extent, say: &mut dyn FnMut(&str)) -> Result<Vec<Measured>> {
    let runtime = runtime()?;
    let mut clusters = Vec::new();
    let most = extent.environments_max;
    for environments in [1, (most / 10).max(1), most] {
        let own = directory.join(clusters.len().to_string());
        clusters.push(Cluster::start(&runtime, &own, environments, say)?);
    }
    let [alone, fewer, most] =
        clusters.try_into().map_err(|_| anyhow::anyhow!("there is a cluster for each size"))?;
    let clusters = [&alone, &fewer, &most];
    rest(REST);
    let percent = idle(clusters.map(|cluster| cluster.coordinator.id()), WINDOW)?;
    let (mut statuses, mut plans) = (Times::default(), Times::default());
    // One of each first, which does not count.
    for round in 0..=ROUNDS {
        for (at, cluster) in clusters.iter().enumerate() {
            let (status, plan) = (cluster.status()?, cluster.plan()?);
            if round > 0 {
                statuses[at].push(status);
                plans[at].push(plan);
            }
        }
    }
    let (statuses, plans) = (statuses.map(|times| median(&times)), plans.map(|times| median(&times)));
    for (at, cluster) in clusters.iter().enumerate() {
        say(&format!(
            "  {} environments: status {:.3} s, plan of one {:.3} s, idle {:.2} % of a processor, {:.1} MiB resident",
            cluster.environments,
            statuses[at],
            plans[at],
            percent[at],
            rss_mib(cluster.coordinator.id())?
        ));
    }
    let measured = |case, unit, of: [f64; 3], limit| Measured {
        case,
        unit,
        ours: of[2],
        peer: of[0],
        peer_name: "one environment",
        interval: None,
        limit,
    };
    Ok(vec![
        measured(Case::ManyStatus, "seconds, status of all", statuses, Limit::OursBelow(1.0)),
        measured(Case::ManyPlan, "seconds, plan of one", plans, Limit::RatioAtMost(1.2)),
        measured(Case::ManyIdleCpu, "percent of one processor", percent, Limit::OursBelow(2.0)),
    ])
}

impl Cluster {
    fn start(
        runtime: &Runtime,
        directory: &Path,
        environments: usize,
        say: &mut dyn FnMut(&str),
    ) -> Result<Self> {
        let place = Place::prepare(directory, Record::Sqlite)?;
        let coordinator = place.start()?;
        let begun = Instant::now();
        let hosts = runtime.block_on(populate(&place, environments))?;
        say(&format!(
            "· many_environments: {environments} environments on {HOSTS} hosts, deployed to in {:.1} s",
            begun.elapsed().as_secs_f64()
        ));
        let project = place.directory.join("project");
        std::fs::create_dir(&project)?;
        std::fs::write(project.join("deployment.yml"), declaration(&hosts.names))?;
        Ok(Self { environments, place, project, coordinator, _hosts: hosts })
    }

    /// `lockstep status` of every environment; each is as it was deployed.
    fn status(&self) -> Result<f64> {
        let begun = Instant::now();
        let answer = run(&mut self.lockstep(&["--output", "json", "status"])?)?;
        let took = begun.elapsed().as_secs_f64();
        let answer: Vec<Value> = serde_json::from_str(&answer)?;
        ensure!(answer.len() == self.environments, "{} environments were answered", answer.len());
        for one in &answer {
            let is_whole = one["drift"] == Value::Array(Vec::new()) && one["traffic"].is_object();
            ensure!(is_whole, "a host was not looked at: {one}");
        }
        let begun = Instant::now();
        run(&mut self.lockstep(&["status"])?)?;
        // Once for programs and once for people: the slower of the two counts.
        Ok(took.max(begun.elapsed().as_secs_f64()))
    }

    /// `lockstep plan` of one environment.
    fn plan(&self) -> Result<f64> {
        let begun = Instant::now();
        run(&mut self.lockstep(&["plan", "production", "--image", "many-0:next"])?)?;
        Ok(begun.elapsed().as_secs_f64())
    }

    fn lockstep(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(built("lockstep")?);
        command
            .args(arguments)
            .current_dir(&self.project)
            .env("LOCKSTEP_CREDENTIAL", self.place.directory.join("operator"))
            .env("PATH", &self.project)
            .env_remove("LOCKSTEP_COORDINATOR");
        Ok(command)
    }
}

/// Deploys to as many environments, each on one of the hosts.
async fn populate(place: &Place, environments: usize) -> Result<Connected> {
    let operator = Operator::log_in(place).await?;
    operator.keep(&place.directory.join("operator"), &place.address)?;
    let joined = host::join(&operator, &place.address, HOSTS).await?;
    let hosts = host::connect(&place.address, joined, Memory::Containers).await?;
    stream::iter(0..environments)
        .map(|number| {
            let (operator, host) = (&operator, &hosts.names[number % HOSTS]);
            async move {
                let deployments = if number == 0 { DEPLOYMENTS_OF_PLANNED } else { DEPLOYMENTS };
                for deployment in 0..deployments {
                    let (key, image) =
                        (format!("many-{number}/production"), format!("many-{number}:{deployment}"));
                    operator
                        .deploy_to(&key, std::slice::from_ref(host), &image)
                        .await
                        .with_context(|| format!("{image} to {key}"))?;
                }
                anyhow::Ok(())
            }
        })
        .buffer_unordered(AT_A_TIME)
        .try_collect::<()>()
        .await?;
    Ok(hosts)
}

/// Of the environment that is planned.
fn declaration(hosts: &[String]) -> String {
    let host = &hosts[0];
    format!(
        "app: many-0\n\
         image: {{ repository: many-0 }}\n\
         processes:\n  \
           web: {{ port: 8080, health: {{ path: /health }} }}\n\
         deploy: {{ bake: 0s, drain: 0s }}\n\
         environments:\n  \
           production:\n    \
             url: http://many-0.example\n    \
             mode: production\n    \
             hosts: {{ app: [{host}], lb: [{host}] }}\n"
    )
}
