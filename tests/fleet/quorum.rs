//! A release that is content with fewer hosts than there are: one that falls ill is passed by, and comes back by
//! itself.

use anyhow::{Context, Result, ensure};
use lockstep_tests::bed::wait::until;
use lockstep_tests::fleet::{
    Ended, Fleet, Held, Host, Loaded, NOTICED_AFTER, Packages, Passing, SOON, Site, Version, give_images,
    tell,
};

#[test]
#[ignore = "it needs root and debootstrap: make fleet-test"]
fn a_host_that_falls_ill_is_passed_by_and_comes_back_by_itself() -> Result<()> {
    let passing = Passing::named("quorum");
    let fleet = Fleet::up(&passing.0, &Packages::made(Version::First)?, &mut tell)?;
    let [app_3, lb] = [fleet.host("app-3")?, fleet.host("lb-1")?];
    let everywhere = [fleet.host("app-1")?, fleet.host("app-2")?, app_3, lb];
    give_images(&passing, &[("notes:1.0.0", 2), ("notes:2.0.0", 2)], &everywhere)?;
    fleet.obey_orders()?;
    let site = Site::notes(&fleet)?;
    site.declare("app-1, app-2, app-3", "bake: 1s, drain: 1s, quorum: 2")?;
    site.grant(&[])?;
    let loaded = Loaded::with(site, "notes:1.0.0")?;
    let site = &loaded.site;

    let cost = loaded.cost("Docker of app-3 ends", || {
        app_3.run("systemctl stop docker.socket docker")?;
        loaded.goes_on_for(NOTICED_AFTER)
    })?;
    ensure!(cost.failed <= loaded.connections, "{cost:?}, more than were in flight");
    loaded.without_loss("a release without it", || {
        let ended = site.ended(&site.begin("notes:2.0.0")?)?;
        passed_by(&ended, app_3)
    })?;
    // It is added like any other: clients with idle connections may meet the one reload that its plan names.
    let cost = loaded.cost("its Docker is back", || {
        app_3.run("systemctl start docker")?;
        serves_again(&loaded, app_3)
    })?;
    ensure!(cost.failed <= loaded.connections, "{cost:?}");

    let held = Held::when(site, "notes:1.0.0", ("health", lb))?;
    let cost = loaded.cost("app-3 loses its power when the new slot is asked for its health", || {
        app_3.power_off()?;
        passed_by(&held.goes_on()?, app_3)
    })?;
    ensure!(cost.failed <= loaded.connections, "{cost:?}, more than were in flight");
    let cost = loaded.cost("it has power again", || {
        app_3.power_on()?;
        serves_again(&loaded, app_3)
    })?;
    ensure!(cost.failed <= loaded.connections, "{cost:?}");
    Ok(())
}

fn passed_by(ended: &Ended, host: &Host) -> Result<()> {
    tell(&ended.told());
    let hosts: Vec<&str> = ended.summary.excluded.iter().map(|host| host.as_str()).collect();
    ensure!(ended.is_success(), "{}", ended.told());
    ensure!(hosts == [host.name.as_str()], "passed by: {hosts:?}");
    Ok(())
}

/// Nobody asks for it.
fn serves_again(loaded: &Loaded<'_>, host: &Host) -> Result<()> {
    until(&format!("{} serves again", host.name), 2 * SOON, || {
        let live = loaded.site.status()?.live.context("nothing is live")?;
        Ok(live.passed_by.is_empty() && live.serving.iter().any(|serving| serving.as_str() == host.name))
    })?;
    tell(&loaded.site.lockstep("history production")?);
    loaded.is_settled()
}
