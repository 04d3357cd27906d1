//! What every test on a fleet begins with: a name that goes with it, images, an environment that is declared, and
//! the load on it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use lockstep_core::host_status::Presence;
use lockstep_core::id::DeploymentId;
use lockstep_core::journal::Entry;
use lockstep_core::plan::{Plan, Step};
use lockstep_core::record::{EnvironmentStatus, Summary, Verdict};
use lockstep_tests::bed::docker::Docker;
use lockstep_tests::bed::wait::until;
use lockstep_tests::fleet::{COORDINATOR_PORT, Fleet, Host, Kind, Moment, Order, PROJECT};
use lockstep_tests::load::{Load, Settings};

pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Requests a second: enough that each host is always asked for something.
pub(crate) const RATE: u32 = 200;

/// So many requests later every client has noticed that a host is gone: it waits for five seconds, on a connection
/// that nginx keeps for two.
pub(crate) const NOTICED_AFTER: u64 = 8 * RATE as u64;

/// What a deployment of these tests takes at most: the longest cut, and the limit of a step that was cut.
const END_LIMIT: Duration = Duration::from_secs(240);

/// So many answers say who serves.
const SETTLED_ANSWERS: u64 = 100;

/// What a test has brought up goes with it, also when it fails.
pub(crate) struct Passing(pub(crate) String);

impl Passing {
    pub(crate) fn named(name: &str) -> Self {
        Self(format!("fleet-{name}-{}", std::process::id()))
    }
}

impl Drop for Passing {
    #[expect(clippy::let_underscore_must_use, reason = "a test that fails should say why, and not this")]
    fn drop(&mut self) {
        let _ = Fleet::down(&self.0);
    }
}

#[expect(clippy::print_stderr, reason = "a fleet takes minutes: who waits is told")]
pub(crate) fn tell(what: &str) {
    eprintln!("{what}");
}

/// Releases of the example: the tag, and how many migrations its image has.
pub(crate) type Release = (&'static str, u32);

/// What the example itself brings; the others are made for these tests.
const OWN_MIGRATIONS: u32 = 2;

/// Builds the example's images, and has them on `hosts`.
pub(crate) fn give_images(passing: &Passing, releases: &[Release], hosts: &[&Host]) -> Result<()> {
    let docker = Docker::check()?;
    let ours = |tag: &str| format!("{}-{tag}", passing.0);
    let base = ours("notes:base");
    docker.build_notes(&base, OWN_MIGRATIONS, &[])?;
    for (tag, schema) in releases {
        if *schema <= OWN_MIGRATIONS {
            docker.build_notes(&ours(tag), *schema, &[])?;
            continue;
        }
        let more: Vec<(String, String)> = (OWN_MIGRATIONS + 1..=*schema).map(migration).collect();
        let more: Vec<(&str, &str)> = more.iter().map(|(name, sql)| (name.as_str(), sql.as_str())).collect();
        docker.build_with_migrations(&ours(tag), &base, &more)?;
    }
    docker.remove_image(&base)?;
    let tags: Vec<String> = releases.iter().map(|(tag, _)| ours(tag)).collect();
    on_all(hosts, |host| {
        host.load_images(&tags)?;
        for (tag, _) in releases {
            host.run(&format!("docker tag {0} {tag} && docker rmi {0}", ours(tag)))?;
        }
        Ok(())
    })?;
    tags.iter().try_for_each(|tag| docker.remove_image(tag))
}

/// Does it on all of them at the same time.
fn on_all(hosts: &[&Host], act: impl Fn(&Host) -> Result<()> + Sync) -> Result<()> {
    let act = &act;
    thread::scope(|scope| {
        let acts: Vec<_> = hosts.iter().map(|host| scope.spawn(move || act(host))).collect();
        acts.into_iter()
            .try_for_each(|act| act.join().unwrap_or_else(|_| Err(anyhow!("bug: the test panicked"))))
    })
}

fn migration(number: u32) -> (String, String) {
    let sql = format!("CREATE TABLE added_{number} (id bigint PRIMARY KEY);\n");
    (format!("{number:06}_add_{number}.up.sql"), sql)
}

/// An environment, and where the operator declares it.
pub(crate) struct Site<'a> {
    fleet: &'a Fleet,
    application: &'static str,
    lb: &'a Host,
}

impl<'a> Site<'a> {
    /// `notes`, on the load balancer that has the database, with migrations.
    pub(crate) fn notes(fleet: &'a Fleet) -> Result<Self> {
        Ok(Self { fleet, application: "notes", lb: fleet.host("lb-1")? })
    }

    /// `memos`, on the other load balancer; somebody else migrates its database.
    pub(crate) fn memos(fleet: &'a Fleet) -> Result<Self> {
        // Its declaration names no database: whoever is let in there is the administrator's affair.
        fleet.let_everybody_in()?;
        Ok(Self { fleet, application: "memos", lb: fleet.host("lb-2")? })
    }

    pub(crate) fn fleet(&self) -> &'a Fleet {
        self.fleet
    }

    pub(crate) fn lb(&self) -> &'a Host {
        self.lb
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
    pub(crate) fn declare(&self, app: &str, deploy: &str) -> Result<()> {
        let Self { fleet, application, lb } = self;
        let operator = fleet.host("c1")?;
        let (database, db) = match lb.kind {
            Kind::LbDb => (
                "database: { postgres: { url_from: DATABASE_URL }, migrations: { path: /migrations }, \
                 snapshot: { directory: /var/backups/notes } }\n",
                format!(", db: [{}]", lb.name),
            ),
            Kind::Coordinator | Kind::App | Kind::Lb | Kind::Bare => ("", String::new()),
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

    /// As its operator types it, in its project.
    pub(crate) fn lockstep(&self, arguments: &str) -> Result<String> {
        self.fleet.host("c1")?.run(&format!("cd {} && lockstep {arguments}", self.project()))
    }

    fn json<T: serde::de::DeserializeOwned>(&self, arguments: &str) -> Result<T> {
        let said = self.lockstep(&format!("--output json {arguments}"))?;
        serde_json::from_str(&said).with_context(|| format!("lockstep {arguments} says {said}"))
    }

    pub(crate) fn load(&self) -> Result<Load> {
        let settings = Settings::notes((self.lb.address, 80).into(), RATE);
        Ok(Load::start(Settings { host_header: self.host_header(), ..settings })?)
    }

    /// What it answers, in lower case.
    pub(crate) fn answer(&self) -> Result<String> {
        let mut stream = TcpStream::connect((self.lb.address, 80))
            .with_context(|| format!("nobody listens on {}", self.lb.name))?;
        stream.set_read_timeout(Some(SOON))?;
        write!(stream, "GET / HTTP/1.0\r\nHost: {}\r\n\r\n", self.host_header())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.to_ascii_lowercase())
    }

    pub(crate) fn status(&self) -> Result<EnvironmentStatus> {
        let all: Vec<EnvironmentStatus> = self.json("status production")?;
        all.into_iter().next().context("the environment has no status")
    }

    /// The step of that kind on that host, in the plan of a deployment of `image`.
    pub(crate) fn planned(&self, image: &str, (kind, host): (&str, &Host)) -> Result<Step> {
        let plan: Plan = self.json(&format!("plan production --image {image}"))?;
        let found =
            plan.steps().find(|step| step.action.name() == kind && step.host_name.as_str() == host.name);
        found.cloned().with_context(|| format!("{image} is deployed without {kind} on {}", host.name))
    }

    /// Begins a deployment, and does not follow it.
    pub(crate) fn begin(&self, image: &str) -> Result<DeploymentId> {
        self.begin_through(self.fleet.host("c1")?, image)
    }

    /// Begins it by a call to that coordinator.
    pub(crate) fn begin_through(&self, coordinator: &Host, image: &str) -> Result<DeploymentId> {
        #[derive(serde::Deserialize)]
        struct Started {
            deployment: DeploymentId,
        }
        let started: Started = self.json(&format!(
            "--coordinator {}:{COORDINATOR_PORT} deploy production --image {image} --detach",
            coordinator.address
        ))?;
        Ok(started.deployment)
    }

    pub(crate) fn is_open(&self) -> Result<bool> {
        Ok(self.status()?.open.is_some())
    }

    /// Waits until the deployment has ended: how, and what it went through.
    pub(crate) fn ended(&self, id: &DeploymentId) -> Result<Ended> {
        until(&format!("{id} has ended"), END_LIMIT, || Ok(!self.is_open()?))?;
        self.json(&format!("show {id}"))
    }
}

/// A deployment that has ended.
#[derive(serde::Deserialize)]
pub(crate) struct Ended {
    pub(crate) summary: Summary,
    pub(crate) journal: Vec<Entry>,
}

impl Ended {
    pub(crate) fn is_success(&self) -> bool {
        self.summary.verdict == Some(Verdict::Succeeded)
    }

    /// In a few words, with what failed where something did.
    pub(crate) fn told(&self) -> String {
        let Summary { verdict, failure, ended_at, opened_at, .. } = &self.summary;
        let verdict = verdict.map_or_else(|| "stuck".to_owned(), |verdict| verdict.to_string());
        let took = ended_at.map(|ended| format!(" in {}", ended.since(*opened_at))).unwrap_or_default();
        let why = failure.as_ref().map(|failed| {
            let host = failed.host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
            let because = failed.failure.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            format!(": {}{host}: {}{because}", failed.step, failed.failure.what)
        });
        format!("{verdict}{took}{}", why.unwrap_or_default())
    }
}

/// An environment under load.
pub(crate) struct Loaded<'a> {
    pub(crate) site: Site<'a>,
    pub(crate) load: Load,
    /// How many requests can be on their way at one instant.
    pub(crate) connections: u64,
}

/// Two environments under load: `notes` on the first two app hosts, `memos` on the last two. A host at an end is the
/// concern of one of them.
pub(crate) fn side_by_side(fleet: &Fleet) -> Result<[Loaded<'_>; 2]> {
    let (notes, memos) = (Site::notes(fleet)?, Site::memos(fleet)?);
    notes.declare("app-1, app-2", "bake: 1s, drain: 1s")?;
    let notes = Loaded::with(notes, "notes:1.0.0")?;
    memos.declare("app-2, app-3", "bake: 1s, drain: 1s")?;
    Ok([notes, Loaded::with(memos, "notes:1.0.0")?])
}

/// Does both at the same time.
pub(crate) fn at_once(
    one: impl FnOnce() -> Result<()>,
    other: impl FnOnce() -> Result<()> + Send,
) -> Result<()> {
    thread::scope(|scope| {
        let other = scope.spawn(other);
        one()?;
        other.join().unwrap_or_else(|_| Err(anyhow!("bug: the test panicked")))
    })
}

/// A deployment that stands still when one of its steps begins.
pub(crate) struct Held<'a> {
    site: &'a Site<'a>,
    deployment: DeploymentId,
    host: &'a Host,
}

impl<'a> Held<'a> {
    /// Begins it, and waits until its step of that kind begins on that host.
    pub(crate) fn when(site: &'a Site<'a>, image: &str, (kind, host): (&str, &'a Host)) -> Result<Self> {
        let step = site.planned(image, (kind, host))?;
        host.order(Moment::Begins(step.id), Order::StandStill)?;
        let deployment = site.begin(image)?;
        host.stands_still()?;
        Ok(Self { site, deployment, host })
    }

    pub(crate) fn deployment(&self) -> &DeploymentId {
        &self.deployment
    }

    /// [`Site::ended`], for whose host goes on, or is begun anew.
    pub(crate) fn ended(&self) -> Result<Ended> {
        self.site.ended(&self.deployment)
    }

    pub(crate) fn goes_on(&self) -> Result<Ended> {
        self.host.goes_on()?;
        self.ended()
    }
}

/// What a fault cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    /// Of these, those for which nobody took the connection.
    pub(crate) refused: u64,
}

impl<'a> Loaded<'a> {
    /// Under load once its first release serves.
    pub(crate) fn with(site: Site<'a>, image: &str) -> Result<Self> {
        site.lockstep(&format!("deploy production --image {image}"))?;
        let connections = u64::try_from(Settings::notes((site.lb.address, 80).into(), RATE).connections)?;
        let load = site.load()?;
        Ok(Self { site, load, connections })
    }

    /// What requests came to while `act` was done.
    pub(crate) fn cost(&self, what: &str, act: impl FnOnce() -> Result<()>) -> Result<Cost> {
        let before = self.load.counts();
        act().with_context(|| what.to_owned())?;
        let after = self.load.counts();
        let cost = Cost {
            requests: after.requests - before.requests,
            failed: after.failed - before.failed,
            refused: after.refused - before.refused,
        };
        let Cost { requests, failed, refused } = cost;
        let application = self.site.application;
        tell(&format!("{application}: {what}: {failed} of {requests} requests failed, {refused} refused"));
        ensure!(requests > 0, "nothing was asked meanwhile");
        Ok(cost)
    }

    /// [`Self::cost`], which must be nothing.
    pub(crate) fn without_loss(&self, what: &str, act: impl FnOnce() -> Result<()>) -> Result<()> {
        let Cost { failed, .. } = self.cost(what, act)?;
        ensure!(failed == 0, "{what}: {failed} requests failed");
        Ok(())
    }

    /// Lets so many more requests be answered.
    pub(crate) fn goes_on_for(&self, requests: u64) -> Result<()> {
        let wanted = self.load.counts().requests + requests;
        until("requests go on", SOON, || Ok(self.load.counts().requests >= wanted))
    }

    /// The record, the hosts and the answers agree, nobody has the lock, and nobody owes anything.
    pub(crate) fn is_settled(&self) -> Result<()> {
        let what = format!("{} is settled", self.site.application);
        until(&what, SOON, || {
            let status = self.site.status()?;
            Ok(status.open.is_none()
                && status.debts.is_empty()
                && status.drift.is_empty()
                && status.hosts.iter().all(|host| host.presence == Presence::Connected))
        })
        .with_context(|| self.site.lockstep("status production").unwrap_or_default())?;
        let live = self.site.status()?.live.context("nothing is live")?;
        let version = live.release.image.rsplit(':').next().unwrap_or_default().to_owned();
        let before = self.load.counts();
        self.goes_on_for(SETTLED_ANSWERS)?;
        let after = self.load.counts();
        for (found, count) in &after.by_version {
            let others = count - before.by_version.get(found).copied().unwrap_or(0);
            ensure!(
                *found == version || others == 0,
                "{others} answers were of {found}, and {version} is live"
            );
        }
        Ok(())
    }
}
