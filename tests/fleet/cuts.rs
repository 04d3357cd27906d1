//! The network between the coordinators and a host is cut for a minute, in each wave of a deployment, and healed.
//!
//! A minute is longer than some steps may take (a switch, a check, what is looked at first): then the deployment is
//! taken back. Elsewhere it goes on when the network does. Nothing of it is a request's concern.

use std::time::Duration;

use anyhow::{Result, ensure};
use lockstep_tests::fleet::{
    Fleet, Held, Loaded, Packages, Passing, Version, at_once, give_images, side_by_side, tell,
};

const CUT: Duration = Duration::from_secs(60);

/// A host is cut off when its step of that kind begins, in a deployment of that image.
struct Cut {
    kind: &'static str,
    host: &'static str,
    image: &'static str,
    may: May,
}

/// How a deployment may end whose host was away for so long.
enum May {
    Succeed,
    /// A minute is about as long as the step may take, or longer.
    Unwind,
}

#[test]
#[ignore = "it needs root and debootstrap: make fleet-test"]
fn hosts_are_cut_off_for_a_minute_in_every_wave() -> Result<()> {
    let passing = Passing::named("cuts");
    let fleet = Fleet::up(&passing.0, &Packages::made(Version::First)?, &mut tell)?;
    let [app_1, app_2, app_3] = [fleet.host("app-1")?, fleet.host("app-2")?, fleet.host("app-3")?];
    let everywhere = [app_1, app_2, app_3, fleet.host("lb-1")?];
    let releases = [("notes:1.0.0", 2), ("notes:2.0.0", 2), ("notes:3.0.0", 3), ("notes:4.0.0", 4)];
    give_images(&passing, &releases, &everywhere)?;
    // It is sent to the other host, through the coordinator.
    give_images(&passing, &[("notes:5.0.0", 2)], &[app_2])?;
    fleet.obey_orders()?;

    // Two environments that share no host that is cut: a minute is spent on both at once.
    let [notes, memos] = side_by_side(&fleet)?;
    let of_notes = [
        Cut { kind: "preflight", host: "app-1", image: "notes:2.0.0", may: May::Unwind },
        Cut { kind: "snapshot", host: "lb-1", image: "notes:3.0.0", may: May::Succeed },
        Cut { kind: "migrate", host: "lb-1", image: "notes:4.0.0", may: May::Succeed },
        Cut { kind: "switch", host: "lb-1", image: "notes:1.0.0", may: May::Unwind },
    ];
    let of_memos = [
        Cut { kind: "image", host: "app-3", image: "notes:5.0.0", may: May::Succeed },
        Cut { kind: "start", host: "app-3", image: "notes:2.0.0", may: May::Succeed },
        Cut { kind: "bake", host: "lb-2", image: "notes:1.0.0", may: May::Unwind },
        Cut { kind: "clean up", host: "app-3", image: "notes:5.0.0", may: May::Succeed },
    ];
    at_once(
        || of_notes.iter().try_for_each(|cut| cut_off(&notes, cut)),
        || of_memos.iter().try_for_each(|cut| cut_off(&memos, cut)),
    )
}

fn cut_off(loaded: &Loaded<'_>, Cut { kind, host, image, may }: &Cut) -> Result<()> {
    let site = &loaded.site;
    let host = site.fleet().host(host)?;
    loaded.without_loss(&format!("{} is cut off in its step {kind}", host.name), || {
        let held = Held::when(site, image, (kind, host))?;
        site.fleet().cut_off(host, CUT)?;
        let ended = held.ended()?;
        tell(&format!("{} cut off in {kind}: {}", host.name, ended.told()));
        match may {
            May::Succeed => ensure!(ended.is_success(), "{}", ended.told()),
            May::Unwind => {}
        }
        loaded.is_settled()
    })
}
