//! An app host loses its power in each wave of a deployment, and comes back.
//!
//! What nginx had sent to it is lost, and nothing after that; the deployment ends as it may, and everything agrees.

use anyhow::{Result, ensure};
use lockstep_tests::fleet::{
    Fleet, Held, Loaded, NOTICED_AFTER, Packages, Passing, Version, at_once, give_images, side_by_side, tell,
};

/// `victim` loses its power when the step of that kind begins on that host.
struct Loss {
    victim: &'static str,
    kind: &'static str,
    on: &'static str,
    image: &'static str,
}

#[test]
#[ignore = "it needs root and debootstrap: make fleet-test"]
fn app_hosts_lose_their_power_in_every_wave() -> Result<()> {
    let passing = Passing::named("power");
    let fleet = Fleet::up(&passing.0, &Packages::made(Version::First)?, &mut tell)?;
    let everywhere = [fleet.host("app-1")?, fleet.host("app-2")?, fleet.host("app-3")?, fleet.host("lb-1")?];
    let releases = [("notes:1.0.0", 2), ("notes:2.0.0", 2), ("notes:3.0.0", 3)];
    give_images(&passing, &releases, &everywhere)?;
    fleet.obey_orders()?;

    // Two environments, each with a host of its own to lose.
    let [notes, memos] = side_by_side(&fleet)?;
    let of_notes = ["start", "clean up"]
        .map(|kind| ("app-1", kind))
        .into_iter()
        .chain([("lb-1", "snapshot"), ("lb-1", "switch")]);
    let of_memos =
        [("app-3", "preflight"), ("app-3", "image"), ("lb-2", "health"), ("lb-2", "bake"), ("lb-2", "drain")];
    let images = ["notes:2.0.0", "notes:1.0.0"];
    let of_notes: Vec<Loss> = of_notes
        .zip(["notes:2.0.0", "notes:1.0.0", "notes:3.0.0", "notes:2.0.0"])
        .map(|((on, kind), image)| Loss { victim: "app-1", kind, on, image })
        .collect();
    let of_memos: Vec<Loss> = of_memos
        .into_iter()
        .zip(images.into_iter().cycle())
        .map(|((on, kind), image)| Loss { victim: "app-3", kind, on, image })
        .collect();
    at_once(
        || of_notes.iter().try_for_each(|loss| lose(&notes, loss)),
        || of_memos.iter().try_for_each(|loss| lose(&memos, loss)),
    )
}

fn lose(loaded: &Loaded<'_>, Loss { victim, kind, on, image }: &Loss) -> Result<()> {
    let site = &loaded.site;
    let (victim, on) = (site.fleet().host(victim)?, site.fleet().host(on)?);
    let held = Held::when(site, image, (kind, on))?;
    let what = format!("{} loses its power when {kind} begins on {}", victim.name, on.name);
    let cost = loaded.cost(&what, || {
        victim.power_off()?;
        if on.name != victim.name {
            on.goes_on()?;
        }
        loaded.goes_on_for(NOTICED_AFTER)
    })?;
    ensure!(cost.failed <= loaded.connections, "{cost:?}, more than were in flight");
    loaded.without_loss(&format!("after that, and when {} is back", victim.name), || {
        victim.power_on()?;
        let ended = held.ended()?;
        tell(&format!("{} without power in {kind}: {}", victim.name, ended.told()));
        loaded.is_settled()
    })
}
