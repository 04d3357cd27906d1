//! An environment of a fleet, and the project in which its operator declares it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};
use lockstep_core::id::{DeploymentId, StepId};

use super::answers::{Plan, Started};
use super::{COORDINATOR_PORT, Ended, Fleet, Host, Kind, PROJECT, RATE, SOON, Status};
use crate::bed::wait::until;
use crate::load::{Load, Settings};

/// What a deployment of these tests takes at most: the longest cut, and the limit of a step that was cut.
const END_LIMIT: Duration = Duration::from_secs(240);

/// An environment, and where the operator declares it.
pub struct Site<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) application: &'static str,
    /// Where its operator's project is.
    operator: &'a Host,
    pub(super) lb: &'a Host,
}

impl<'a> Site<'a> {
    /// `notes`, on the load balancer that has the database, with migrations.
    ///
    /// # Errors
    /// When the fleet is not whole.
    pub fn notes(fleet: &'a Fleet) -> Result<Self> {
        Ok(Self { fleet, application: "notes", operator: fleet.host("c1")?, lb: fleet.host("lb-1")? })
    }

    /// `notes`, on a machine that is everything.
    pub fn alone(fleet: &'a Fleet, machine: &'a Host) -> Self {
        Self { fleet, application: "notes", operator: machine, lb: machine }
    }

    /// `memos`, on the other load balancer; somebody else migrates its database.
    ///
    /// # Errors
    /// When the fleet is not whole.
    pub fn memos(fleet: &'a Fleet) -> Result<Self> {
        // Its declaration names no database: whoever is let in there is the administrator's affair.
        fleet.let_everybody_in()?;
        Ok(Self { application: "memos", lb: fleet.host("lb-2")?, ..Self::notes(fleet)? })
    }

    /// `drafts`, beside `memos`, as it is one.
    ///
    /// # Errors
    /// When the fleet is not whole.
    pub fn drafts(fleet: &'a Fleet) -> Result<Self> {
        Ok(Self { application: "drafts", ..Self::memos(fleet)? })
    }

    pub fn fleet(&self) -> &'a Fleet {
        self.fleet
    }

    pub fn operator(&self) -> &'a Host {
        self.operator
    }

    pub fn lb(&self) -> &'a Host {
        self.lb
    }

    /// As it is named from any directory.
    pub fn environment(&self) -> String {
        format!("{}/production", self.application)
    }

    fn project(&self) -> String {
        if self.application == "notes" {
            PROJECT.to_owned()
        } else {
            format!("{PROJECT}-{}", self.application)
        }
    }

    fn host_header(&self) -> String {
        format!("{}.example", self.application)
    }

    /// Writes its `deployment.yml`: on these app hosts, deployed so.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn declare(&self, app: &str, deploy: &str) -> Result<()> {
        let Self { fleet, application, lb, operator } = self;
        let (database, db) = match lb.kind {
            Kind::LbDb | Kind::Bare | Kind::Fresh => (
                "database: { postgres: { url_from: DATABASE_URL }, migrations: { path: /migrations }, \
                 snapshot: { directory: /var/backups/notes } }\n",
                format!(", db: [{}]", lb.name),
            ),
            Kind::Coordinator | Kind::App | Kind::Lb => ("", String::new()),
        };
        let declaration = format!(
            "app: {application}\nimage: notes\nport: 8080\n{database}deploy: {{ {deploy} }}\n\
             environments: {{ production: {{ url: \"http://{}\", required: [DATABASE_URL], \
             hosts: {{ app: [{app}], lb: [{}]{db} }} }} }}\n",
            self.host_header(),
            lb.name,
        );
        operator.write(&format!("{}/deployment.yml", self.project()), &declaration)?;
        let secrets = format!("DATABASE_URL={}\n", fleet.database_url()?);
        operator.write(&format!("{}/.env.production", self.project()), &secrets)
    }

    /// Lets it run on these hosts, and keep its snapshots where it says.
    ///
    /// # Errors
    /// When it is refused.
    pub fn grant(&self, hosts: &[&str]) -> Result<()> {
        let hosts: Vec<String> = hosts.iter().map(|host| format!("--host {host}")).collect();
        let resources = format!("{} --snapshot-directory /var/backups/notes", hosts.join(" "));
        self.lockstep(&format!("env grant production {resources}"))?;
        Ok(())
    }

    /// From here on the record alone has the values of its secrets.
    ///
    /// # Errors
    /// When the file was not there.
    pub fn forget_env_file(&self) -> Result<()> {
        self.operator.run(&format!("rm {}/.env.production", self.project()))?;
        Ok(())
    }

    /// As its operator types it, in its project.
    ///
    /// # Errors
    /// When it fails.
    pub fn lockstep(&self, arguments: &str) -> Result<String> {
        self.operator.run(&format!("cd {} && lockstep {arguments}", self.project()))
    }

    /// # Errors
    /// When it fails, or the answer is not what is looked for.
    pub fn json<T: serde::de::DeserializeOwned>(&self, arguments: &str) -> Result<T> {
        let said = self.lockstep(&format!("--output json {arguments}"))?;
        serde_json::from_str(&said).with_context(|| format!("lockstep {arguments} says {said}"))
    }

    /// # Errors
    /// When it cannot be started.
    pub fn load(&self) -> Result<Load> {
        let settings = Settings::notes((self.lb.address, 80).into(), RATE);
        Ok(Load::start(Settings { host_header: self.host_header(), ..settings })?)
    }

    /// What it answers, in lower case.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn answer(&self) -> Result<String> {
        let mut stream = TcpStream::connect((self.lb.address, 80))
            .with_context(|| format!("nobody listens on {}", self.lb.name))?;
        stream.set_read_timeout(Some(SOON))?;
        write!(stream, "GET / HTTP/1.0\r\nHost: {}\r\n\r\n", self.host_header())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.to_ascii_lowercase())
    }

    /// # Errors
    /// When the environment is not known.
    pub fn status(&self) -> Result<Status> {
        let all: Vec<Status> = self.json("status production")?;
        all.into_iter().next().context("the environment has no status")
    }

    /// The step of that kind on that host, in the plan of a deployment of `image`.
    ///
    /// # Errors
    /// When there is none.
    pub fn planned(&self, image: &str, (kind, host): (&str, &Host)) -> Result<StepId> {
        let plan: Plan = self.json(&format!("plan production --image {image}"))?;
        let found = plan.step(kind, &host.name);
        found.with_context(|| format!("{image} is deployed without {kind} on {}", host.name))
    }

    /// Begins a deployment, and does not follow it.
    ///
    /// # Errors
    /// When it is refused.
    pub fn begin(&self, image: &str) -> Result<DeploymentId> {
        let started: Started = self.json(&format!("deploy production --image {image} --detach"))?;
        Ok(started.deployment)
    }

    /// Begins it by a call to that coordinator.
    ///
    /// # Errors
    /// When it is refused.
    pub fn begin_through(&self, coordinator: &Host, image: &str) -> Result<DeploymentId> {
        let started: Started = self.json(&format!(
            "--coordinator {}:{COORDINATOR_PORT} deploy production --image {image} --detach",
            coordinator.address
        ))?;
        Ok(started.deployment)
    }

    /// # Errors
    /// When the environment is not known.
    pub fn is_open(&self) -> Result<bool> {
        Ok(self.status()?.open.is_some())
    }

    /// Waits until the deployment has ended: how, and what it went through.
    ///
    /// # Errors
    /// When it does not end.
    pub fn ended(&self, id: &DeploymentId) -> Result<Ended> {
        until(&format!("{id} has ended"), END_LIMIT, || Ok(!self.is_open()?))?;
        self.json(&format!("show {id}"))
    }
}
