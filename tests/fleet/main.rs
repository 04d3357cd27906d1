//! Our packages on hosts that boot systemd, and a fleet of them: `make fleet-test`.
//!
//! They need root, Debian's packages within reach for the first time, and minutes: so they are ignored elsewhere.

use anyhow::{Result, ensure};
use lockstep_tests::bed::wait::until;
use lockstep_tests::fleet::{
    Fleet, Host, Kind, Loaded, Packages, Passing, SOON, Site, Version, give_images, tell,
};

mod cuts;
mod machines;
mod power;
mod quick_start;
mod quorum;
mod services;

/// What the README says of each unit.
const COORDINATOR_EXPOSURE: f64 = 2.1;
const AGENT_EXPOSURE: f64 = 2.4;
const APP_EXPOSURE: f64 = 1.6;
const LB_EXPOSURE: f64 = 2.2;

const AGENT: &str = "lockstep-agent";
const COORDINATOR: &str = "lockstep-coordinator";

fn bare(passing: &Passing) -> Result<Fleet> {
    let fleet = Fleet::start(&passing.0, &[("bare", Kind::Bare, 11)], &mut tell)?;
    Packages::made(Version::First)?.install(fleet.host("bare")?)?;
    Ok(fleet)
}

/// One coordinator that begins a cluster, and its own machine as a host.
fn begin(host: &Host) -> Result<()> {
    host.run(&format!(
        "systemctl enable --quiet --now {COORDINATOR}
         lockstep login --coordinator 127.0.0.1:7443 < /var/lib/lockstep/coordinator/operator.token
         eval \"$(lockstep host token --name bare --role app | head -1) --address {}\"",
        host.address
    ))?;
    is_connected(host)
}

fn is_connected(host: &Host) -> Result<()> {
    until("the host is connected", SOON, || {
        Ok(host.run("lockstep host list").is_ok_and(|said| said.contains("connected")))
    })
}

fn exists(host: &Host, path: &str) -> Result<bool> {
    Ok(host.run(&format!("if [ -e {path} ] || [ -L {path} ]; then echo yes; fi"))? == "yes")
}

fn property(host: &Host, unit: &str, name: &str) -> Result<String> {
    host.run(&format!("systemctl show --value --property {name} {unit}"))
}

#[test]
#[ignore = "it needs root and debootstrap: make fleet-test"]
fn packages_bring_services_whose_state_outlives_all_but_a_purge() -> Result<()> {
    let passing = Passing::named("packages");
    let fleet = bare(&passing)?;
    let host = fleet.host("bare")?;

    // Nothing has begun that nobody asked for: this machine may be to join others.
    ensure!(!host.is_active(COORDINATOR)? && !host.is_active(AGENT)?);
    ensure!(host.run("systemctl --failed --quiet")?.is_empty(), "a unit failed");
    ensure!(exists(host, "/usr/share/man/man1/lockstep-deploy.1.gz")?, "there is no manual");
    ensure!(exists(host, "/usr/share/man/man5/deployment.yml.5.gz")?, "there is no manual of deployment.yml");
    let completed = "source /usr/share/bash-completion/completions/lockstep && complete -p lockstep";
    ensure!(host.run(completed)?.contains("lockstep"));
    ensure!(host.exposure(COORDINATOR)? <= COORDINATOR_EXPOSURE);
    ensure!(host.exposure(AGENT)? <= AGENT_EXPOSURE);

    begin(host)?;
    ensure!(host.is_active(AGENT)?, "joining does not start the agent");
    ensure!(host.exposure(AGENT)? <= APP_EXPOSURE, "a host for applications keeps what others need");
    let identity = host.run("cat /var/lib/lockstep/agent/identity.toml")?;

    let before = property(host, AGENT, "MainPID")?;
    Packages::made(Version::Next)?.install(host)?;
    ensure!(host.run("dpkg-query --show lockstep-agent")?.ends_with(Version::Next.number()));
    ensure!(host.is_active(COORDINATOR)? && host.is_active(AGENT)?);
    ensure!(property(host, AGENT, "MainPID")? != before, "the agent is the one from before the upgrade");
    is_connected(host)?;

    host.run(&format!("apt-get remove --yes --quiet {AGENT} {COORDINATOR}"))?;
    ensure!(!host.is_active(COORDINATOR)? && !host.is_active(AGENT)?);
    ensure!(host.run("cat /var/lib/lockstep/agent/identity.toml")? == identity, "a removal lost the host");
    Packages::made(Version::Next)?.install(host)?;
    is_connected(host)?;

    // nginx still finds a slot by the agent's file: that alone outlives a purge.
    let site = "/etc/nginx/conf.d/lockstep-notes_production.conf";
    host.run(&format!("echo '# /var/lib/lockstep/agent/traffic/notes_production/green' > {site}"))?;
    host.run(&format!("apt-get purge --yes --quiet {AGENT} {COORDINATOR}"))?;
    ensure!(host.run("ls /var/lib/lockstep/agent")? == "traffic");
    ensure!(!exists(host, "/var/lib/lockstep/coordinator")?, "a purge left the coordinator's state");
    host.run(&format!("rm {site}"))?;
    Packages::made(Version::Next)?.install(host)?;
    ensure!(!host.is_active(AGENT)?, "the agent of a host that has not joined runs");
    host.run(&format!("apt-get purge --yes --quiet {AGENT} {COORDINATOR}"))?;
    ensure!(!exists(host, "/var/lib/lockstep")? && !exists(host, "/etc/lockstep")?, "a purge left something");
    ensure!(!exists(host, "/etc/systemd/system/lockstep-agent.service.d")?, "a purge left masks");
    Ok(())
}

#[test]
#[ignore = "it needs root and debootstrap: make fleet-test"]
fn a_service_whose_loop_stands_still_is_started_anew_and_one_that_goes_on_is_not() -> Result<()> {
    let passing = Passing::named("watchdog");
    let fleet = bare(&passing)?;
    let host = fleet.host("bare")?;
    begin(host)?;
    for unit in [AGENT, COORDINATOR] {
        host.write(
            &format!("/etc/systemd/system/{unit}.service.d/soon.conf"),
            "[Service]\nWatchdogSec=8\nTimeoutAbortSec=1\n",
        )?;
    }
    host.run(&format!("systemctl daemon-reload && systemctl restart {COORDINATOR} {AGENT}"))?;
    for unit in [AGENT, COORDINATOR] {
        let fed = |limit: u64| -> Result<bool> {
            let begun: u64 = property(host, unit, "ExecMainStartTimestampMonotonic")?.parse()?;
            let fed: u64 = property(host, unit, "WatchdogTimestampMonotonic")?.parse()?;
            Ok(fed > begun + limit * 1_000_000)
        };
        until(&format!("{unit} was fed for twice its limit"), SOON, || fed(16))?;
        ensure!(property(host, unit, "NRestarts")? == "0", "{unit} goes on, and was started anew");
        host.run(&format!("kill -STOP $(systemctl show --value --property MainPID {unit})"))?;
        until(&format!("{unit} is started anew"), SOON, || Ok(property(host, unit, "NRestarts")? == "1"))?;
        until(&format!("{unit} is ready again"), SOON, || host.is_active(unit))?;
    }
    is_connected(host)
}

#[test]
#[ignore = "it needs root and debootstrap: make fleet-test"]
fn lockstep_up_installs_the_same_units_and_they_run() -> Result<()> {
    let passing = Passing::named("up");
    let fleet = bare(&passing)?;
    let host = fleet.host("bare")?;
    host.run("systemctl enable --quiet --now containerd docker")?;

    let said = host.run("lockstep up --roles app,lb,db")?;
    ensure!(said.contains("managed by systemd") && said.contains("Ready;"), "{said}");
    ensure!(host.is_active(COORDINATOR)? && host.is_active(AGENT)?);
    // The packages' units are in force, and nothing hides them.
    for unit in [COORDINATOR, AGENT] {
        let fragment = property(host, unit, "FragmentPath")?;
        ensure!(fragment.ends_with(&format!("lib/systemd/system/{unit}.service")), "{fragment}");
        ensure!(!exists(host, &format!("/etc/systemd/system/{unit}.service"))?, "a copy hides {unit}");
    }
    ensure!(host.exposure(AGENT)? <= AGENT_EXPOSURE);
    let said = host.run("lockstep up")?;
    ensure!(said.contains("Everything was there"), "{said}");

    // A copy as an earlier version wrote it: the next installation of the package takes it away.
    host.run(&format!(
        "unit=/usr/lib/systemd/system/{AGENT}.service
         mark='# Written by `lockstep up`; the SHA-256 of what follows this line: '
         (echo \"$mark$(sha256sum < $unit | cut -c 1-64)\" && cat $unit) > /etc/systemd/system/{AGENT}.service
         systemctl daemon-reload"
    ))?;
    Packages::made(Version::Next)?.install(host)?;
    ensure!(!exists(host, &format!("/etc/systemd/system/{AGENT}.service"))?, "the copy still hides {AGENT}");
    ensure!(host.is_active(AGENT)?);
    // One that was changed by hand stays, and both say so.
    host.run(&format!(
        "sed 's/WatchdogSec=60/WatchdogSec=61/' /usr/lib/systemd/system/{AGENT}.service \
         > /etc/systemd/system/{AGENT}.service && systemctl daemon-reload"
    ))?;
    let said = host.run("lockstep up")?;
    ensure!(said.contains("which was changed by hand and hides the package's unit"), "{said}");
    host.run(&format!("rm /etc/systemd/system/{AGENT}.service && systemctl daemon-reload"))?;

    host.run("lockstep down --purge --yes")?;
    ensure!(!exists(host, "/etc/systemd/system/lockstep-agent.service.d")?);
    // Another directory than the packages': what the units name goes with it.
    let said = host.run("lockstep up --roles app --directory /srv/lockstep")?;
    ensure!(said.contains("Ready;"), "{said}");
    ensure!(host.is_active(AGENT)?);
    ensure!(!exists(host, &format!("/etc/systemd/system/{AGENT}.service"))?, "a copy hides {AGENT}");
    ensure!(property(host, AGENT, "ExecStart")?.contains("--directory /srv/lockstep/agent"));
    Ok(())
}

#[test]
#[ignore = "it needs root and debootstrap: make fleet-test"]
fn a_fleet_is_installed_joined_and_deployed_to() -> Result<()> {
    let passing = Passing::named("whole");
    let fleet = Fleet::up(&passing.0, &Packages::made(Version::First)?, &mut tell)?;

    let coordinators = fleet.lockstep("coordinator list")?;
    let hosts = fleet.lockstep("host list")?;
    for host in fleet.hosts() {
        let (unit, exposure, list, words) = match host.kind {
            Kind::Coordinator => (COORDINATOR, COORDINATOR_EXPOSURE, &coordinators, "since"),
            Kind::App => (AGENT, APP_EXPOSURE, &hosts, "app"),
            Kind::Lb => (AGENT, LB_EXPOSURE, &hosts, "lb"),
            Kind::LbDb => (AGENT, AGENT_EXPOSURE, &hosts, "lb,db"),
            Kind::Bare | Kind::Fresh => continue,
        };
        ensure!(host.is_active(unit)?, "{unit} does not run on {}", host.name);
        let found = host.exposure(unit)?;
        ensure!(found <= exposure, "{unit} on {} has an exposure of {found}", host.name);
        let row = list.lines().find(|row| row.contains(&host.address.to_string())).unwrap_or_default();
        ensure!(row.contains(words), "{} is not in:\n{list}", host.name);
    }

    let site = Site::notes(&fleet)?;
    site.declare("app-1", "bake: 1s, drain: 5s")?;
    site.grant(&[])?;
    let application = fleet.host("app-1")?;
    for (tag, schema) in [("notes:1.0.0", 1), ("notes:2.0.0", 2)] {
        // The database's host reads the migrations from the image.
        give_images(&passing, &[(tag, schema)], &[application, site.lb()])?;
        site.lockstep(&format!("deploy production --image {tag}"))?;
        let version = tag.trim_start_matches("notes:");
        let answer = site.answer()?;
        ensure!(answer.contains(&format!("x-version: {version}")), "it does not serve {version}:\n{answer}");
        let running = application.run(&format!("docker ps --quiet --filter ancestor={tag}"))?;
        ensure!(!running.is_empty(), "{tag} does not run on {}", application.name);
    }
    Ok(())
}

/// Whether the load balancer has a connection to the host's containers.
fn is_asked(fleet: &Fleet, host: &Host) -> Result<bool> {
    let connections = fleet.host("lb-1")?.run(&format!("ss -Htn state established dst {}", host.address))?;
    Ok(connections.lines().any(|line| line.contains(":2")))
}

/// The hosts that have a line of ours in the database's rules, by their addresses.
fn let_in(fleet: &Fleet) -> Result<Vec<String>> {
    let rules = fleet.host("lb-1")?.run("cat /etc/postgresql/*/main/pg_hba.conf")?;
    let ours = rules.split("# BEGIN LOCKSTEP notes/production").nth(1).unwrap_or_default();
    let lines = ours.lines().filter(|line| line.starts_with("host\t"));
    Ok(lines.filter_map(|line| Some(line.split('\t').nth(3)?.trim_end_matches("/32").to_owned())).collect())
}

/// Whether PostgreSQL asks who comes from `host` for a password, and does not keep it out.
fn is_let_in(fleet: &Fleet, host: &Host) -> Result<bool> {
    let url = fleet.database_url()?.replace(":fleet@", ":wrong@");
    let said = host.run(&format!("psql '{url}' --command '' 2>&1 || true"))?;
    ensure!(
        said.contains("password authentication failed") || said.contains("no pg_hba.conf entry"),
        "{said}"
    );
    Ok(said.contains("password authentication failed"))
}

fn runs_something(host: &Host) -> Result<bool> {
    Ok(!host.run("docker ps --quiet --filter label=lockstep.slot")?.is_empty())
}

#[test]
#[ignore = "it needs root and debootstrap: make fleet-test"]
fn hosts_come_and_go_while_the_application_serves() -> Result<()> {
    let passing = Passing::named("grows");
    let fleet = Fleet::up(&passing.0, &Packages::made(Version::First)?, &mut tell)?;
    let [app_1, app_2, app_3] = [fleet.host("app-1")?, fleet.host("app-2")?, fleet.host("app-3")?];
    let site = Site::notes(&fleet)?;
    let releases = [("notes:1.0.0", 1), ("notes:2.0.0", 2)];
    give_images(&passing, &releases, &[app_1, app_2, app_3, site.lb()])?;
    let declare = |app: &str| Site::notes(&fleet)?.declare(app, "bake: 1s, drain: 5s");
    declare("app-1, app-2")?;
    site.grant(&["app-3"])?;
    ensure!(!is_let_in(&fleet, app_1)?, "the database of this fleet lets everybody in");
    let loaded = Loaded::with(site, "notes:1.0.0")?;
    ensure!(let_in(&fleet)? == [app_1.address.to_string(), app_2.address.to_string()]);
    ensure!(is_let_in(&fleet, app_1)? && !is_let_in(&fleet, app_3)?);
    let connections = loaded.connections;
    let told = |arguments: &str| loaded.site.lockstep(arguments).map(|said| tell(&said));

    // Clients with idle connections may meet the one reload that the plan names.
    let cost = loaded.cost("a third host comes", || {
        told("host add production app-3 --dry-run")?;
        told("host add production app-3")?;
        until("the third host is asked", SOON, || is_asked(&fleet, app_3))
    })?;
    ensure!(cost.failed <= connections, "{cost:?}");
    ensure!(is_let_in(&fleet, app_3)?, "it serves without its database");
    declare("app-1, app-2, app-3")?;

    let cost = loaded.cost("a host is drained", || {
        told("host drain production app-2")?;
        until("the drained host is not asked", SOON, || Ok(!is_asked(&fleet, app_2)?))
    })?;
    ensure!(cost.failed <= connections, "{cost:?}");
    ensure!(!runs_something(app_2)?, "what is live runs on a drained host");

    loaded.without_loss("a release passes the drained host by", || {
        told("deploy production --image notes:2.0.0")
    })?;
    ensure!(!runs_something(app_2)?, "a release was started on a drained host");

    let cost = loaded.cost("a host loses its power", || {
        app_3.power_off()?;
        told("host drain production app-3")
    })?;
    ensure!(cost.failed <= connections, "{cost:?}, more than were in flight");
    loaded.without_loss("without it", || told("deploy production --image notes:1.0.0"))?;

    let cost = loaded.cost("it comes back", || {
        app_3.power_on()?;
        until("the host is connected", SOON, || Ok(told("host add production app-3").is_ok()))
    })?;
    ensure!(cost.failed <= connections, "{cost:?}");
    let live =
        app_3.run("docker ps --quiet --filter ancestor=notes:1.0.0 --filter label=lockstep.slot=blue")?;
    ensure!(!live.is_empty(), "what is live meanwhile does not run on it");
    until("the host that came back is asked", SOON, || is_asked(&fleet, app_3))?;

    ensure!(is_let_in(&fleet, app_2)?, "a drained host has lost its line");
    told("host remove production app-2")?;
    ensure!(!is_let_in(&fleet, app_2)?, "a host that was removed is let in");
    ensure!(let_in(&fleet)? == [app_1.address.to_string(), app_3.address.to_string()]);
    told("status production")?;
    Ok(())
}
