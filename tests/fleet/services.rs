//! Services are upgraded, started anew, killed and switched off while a deployment runs.

use anyhow::{Result, ensure};
use lockstep_core::run::journal::Event;
use lockstep_tests::fleet::{
    Ended, Fleet, Held, Host, Loaded, Moment, NOTICED_AFTER, Order, Packages, Passing, RATE, Site, Version,
    give_images, tell,
};

const AGENT: &str = "lockstep-agent";
const COORDINATOR: &str = "lockstep-coordinator";

fn succeeds(ended: &Ended) -> Result<()> {
    ensure!(ended.is_success(), "{}", ended.told());
    Ok(())
}

/// Who drove it, one after the other.
fn drivers(ended: &Ended) -> Vec<&str> {
    let by = ended.journal.iter().filter_map(|entry| {
        if let Event::LockTaken { by } = &entry.event { Some(by.as_str()) } else { None }
    });
    by.collect()
}

#[test]
#[ignore = "it needs root and debootstrap: make fleet-test"]
fn a_deployment_goes_on_whatever_happens_to_its_services() -> Result<()> {
    let passing = Passing::named("services");
    let fleet = Fleet::up(&passing.0, &Packages::made(Version::First)?, &mut tell)?;
    let [app_1, app_2, lb, c2] =
        [fleet.host("app-1")?, fleet.host("app-2")?, fleet.host("lb-1")?, fleet.host("c2")?];
    give_images(&passing, &[("notes:1.0.0", 1), ("notes:2.0.0", 2)], &[app_1, app_2, lb])?;
    fleet.obey_orders()?;
    let site = Site::notes(&fleet)?;
    site.declare("app-1, app-2", "bake: 1s, drain: 1s")?;
    site.grant(&[])?;
    let loaded = Loaded::with(site, "notes:1.0.0")?;

    loaded.without_loss("an agent's package is upgraded when its slot is started", || {
        let held = Held::when(&loaded.site, "notes:2.0.0", ("start", app_1))?;
        Packages::made(Version::Next)?.install(app_1)?;
        succeeds(&held.ended()?)?;
        loaded.is_settled()
    })?;
    loaded.without_loss("the load balancer's agent is started anew in the switch", || {
        let held = Held::when(&loaded.site, "notes:1.0.0", ("switch", lb))?;
        lb.run(&format!("systemctl restart {AGENT}"))?;
        succeeds(&held.ended()?)?;
        loaded.is_settled()
    })?;
    loaded.without_loss("the load balancer's agent is killed after the switch", || {
        let step = loaded.site.planned("notes:2.0.0", ("switch", lb))?;
        lb.order(Moment::IsDone(step), Order::Die)?;
        let deployment = loaded.site.begin("notes:2.0.0")?;
        succeeds(&loaded.site.ended(&deployment)?)?;
        ensure!(lb.run(&format!("systemctl show --value --property NRestarts {AGENT}"))? == "1");
        loaded.is_settled()
    })?;
    nginx_is_started_anew(&loaded)?;
    docker_is_started_anew(&loaded, app_2)?;
    loaded.without_loss("the coordinator that drives loses its power", || {
        let step = loaded.site.planned("notes:1.0.0", ("start", app_1))?;
        app_1.order(Moment::Begins(step), Order::StandStill)?;
        // Whoever is there may drive: for that moment it is one.
        let others = [fleet.host("c1")?, fleet.host("c3")?];
        others.iter().try_for_each(|other| other.run(&format!("systemctl stop {COORDINATOR}")).map(drop))?;
        fleet.all_are_connected()?;
        let deployment = loaded.site.begin_through(c2, "notes:1.0.0")?;
        app_1.stands_still()?;
        others.iter().try_for_each(|other| other.run(&format!("systemctl start {COORDINATOR}")).map(drop))?;
        c2.power_off()?;
        app_1.goes_on()?;
        let ended = loaded.site.ended(&deployment)?;
        succeeds(&ended)?;
        ensure!(drivers(&ended).len() == 2, "it was driven by {:?}", drivers(&ended));
        loaded.is_settled()
    })
}

/// While it is down, who comes is refused; what it had is answered, or in flight.
fn nginx_is_started_anew(loaded: &Loaded<'_>) -> Result<()> {
    let lb = loaded.site.lb();
    let held = Held::when(&loaded.site, "notes:1.0.0", ("switch", lb))?;
    let cost = loaded.cost("nginx is started anew in the switch", || {
        lb.run("systemctl restart nginx")?;
        loaded.goes_on_for(u64::from(RATE))
    })?;
    ensure!(cost.failed - cost.refused <= loaded.connections, "{cost:?}, more than were in flight");
    loaded.without_loss("after that", || {
        let ended = held.goes_on()?;
        tell(&format!("nginx started anew in the switch: {}", ended.told()));
        loaded.is_settled()
    })
}

/// Without `live-restore`, which Debian does not set, its containers end with it, and come back.
fn docker_is_started_anew(loaded: &Loaded<'_>, host: &Host) -> Result<()> {
    let held = Held::when(&loaded.site, "notes:2.0.0", ("start", host))?;
    let cost = loaded.cost(&format!("dockerd is started anew on {}", host.name), || {
        host.run("systemctl restart docker")?;
        loaded.goes_on_for(NOTICED_AFTER)
    })?;
    ensure!(cost.failed <= loaded.connections, "{cost:?}, more than were in flight");
    loaded.without_loss("after that", || {
        let ended = held.goes_on()?;
        tell(&format!("dockerd started anew: {}", ended.told()));
        loaded.is_settled()
    })
}
