//! Machines that are not as they should be: a full disk, a clock that is wrong, a copy of a host with its key.

use anyhow::{Context, Result, ensure};
use lockstep_tests::bed::wait::until;
use lockstep_tests::fleet::{
    Fleet, Held, Host, Loaded, Packages, Passing, RATE, SOON, Site, Version, give_images, tell,
};

const AGENT: &str = "lockstep-agent";
const COORDINATOR: &str = "lockstep-coordinator";

/// What an agent keeps.
const STATE: &str = "/var/lib/lockstep/agent";
const SNAPSHOTS: &str = "/var/backups/notes";

/// Room for what an agent keeps, and little more.
const SMALL_MIB: u32 = 24;

/// A database that is empty wants eleven.
const ROOM_FOR_SNAPSHOTS_MIB: u32 = 64;

const SETTLED_FOR: u64 = 100;

struct Disks<'a> {
    loaded: &'a Loaded<'a>,
}

impl Disks<'_> {
    /// A deployment while there is no room is refused, or taken back, and names the host; the next one is fine.
    fn full(&self, (host, folder): (&Host, &str), images: [&str; 2]) -> Result<()> {
        let site = &self.loaded.site;
        self.loaded.without_loss(&format!("{folder} of {} is full", host.name), || {
            host.fill(folder)?;
            let refused = site.lockstep(&format!("deploy production --image {}", images[0]));
            let said = format!("{:#}", refused.err().context("it was deployed without a place to write")?);
            tell(&said);
            ensure!(said.contains(&host.name) && said.contains("disk"), "{said}");
            self.loaded.goes_on_for(SETTLED_FOR)?;
            host.empty(folder)?;
            self.loaded.is_settled()?;
            site.lockstep(&format!("deploy production --image {}", images[1])).map(|said| tell(&said))?;
            self.loaded.is_settled()
        })
    }

    /// The room ends when a step of that kind begins there. What was done cannot be written down, so it is not
    /// reported, until there is room.
    fn fills_up(&self, host: &Host, (kind, until): (&str, Until), image: &str) -> Result<()> {
        let site = &self.loaded.site;
        self.loaded.without_loss(&format!("{STATE} of {} fills up in its step {kind}", host.name), || {
            let held = Held::when(site, image, (kind, host))?;
            let deployment = held.deployment();
            host.fill(STATE)?;
            host.goes_on()?;
            match until {
                Until::Soon => self.loaded.goes_on_for(10 * u64::from(RATE))?,
                Until::ItIsStuck => {
                    let said = site.lockstep(&format!("watch {deployment}"));
                    let said =
                        format!("{:#}", said.err().context("it was deployed without a place to write")?);
                    tell(&said);
                    ensure!(said.contains("is stuck"), "{said}");
                    let shown = site.lockstep(&format!("show {deployment}"))?;
                    let stuck = shown.lines().find(|line| line.contains("stuck at")).unwrap_or_default();
                    ensure!(stuck.contains(&host.name) && stuck.contains("disk is full"), "{shown}");
                }
            }
            host.empty(STATE)?;
            if matches!(until, Until::ItIsStuck) {
                // It says that the release was taken back, which is no success.
                let resolved = site.lockstep(&format!("resolve {deployment} --retry --yes"));
                tell(&resolved.unwrap_or_else(|failed| format!("{failed:#}")));
            }
            let ended = held.ended()?;
            tell(&format!("{} fills up in {kind}: {}", host.name, ended.told()));
            self.loaded.is_settled()?;
            site.lockstep(&format!("deploy production --image {image}")).map(|said| tell(&said))?;
            self.loaded.is_settled()
        })
    }
}

/// When there is room again.
enum Until {
    Soon,
    ItIsStuck,
}

const RELEASES: [(&str, u32); 3] = [("notes:1.0.0", 2), ("notes:2.0.0", 2), ("notes:3.0.0", 3)];

#[test]
#[ignore = "it needs root and debootstrap: make fleet-test"]
fn disks_are_full() -> Result<()> {
    let passing = Passing::named("disks");
    let fleet = Fleet::up(&passing.0, &Packages::made(Version::First)?, &mut tell)?;
    let [app_1, app_2, lb] = [fleet.host("app-1")?, fleet.host("app-2")?, fleet.host("lb-1")?];
    give_images(&passing, &RELEASES, &[app_1, app_2, lb])?;
    for host in [app_1, lb] {
        host.shrink(STATE, SMALL_MIB)?;
    }
    lb.run(&format!("mkdir -p {SNAPSHOTS}"))?;
    lb.shrink(SNAPSHOTS, ROOM_FOR_SNAPSHOTS_MIB)?;
    fleet.obey_orders()?;
    let site = Site::notes(&fleet)?;
    site.declare("app-1, app-2", "bake: 1s, drain: 1s")?;
    site.grant(&[])?;
    let loaded = Loaded::with(site, "notes:1.0.0")?;

    let disks = Disks { loaded: &loaded };
    disks.full((app_1, STATE), ["notes:2.0.0", "notes:2.0.0"])?;
    disks.full((lb, STATE), ["notes:1.0.0", "notes:1.0.0"])?;
    disks.full((lb, SNAPSHOTS), ["notes:3.0.0", "notes:2.0.0"])?;
    disks.fills_up(app_1, ("start", Until::Soon), "notes:1.0.0")?;
    disks.fills_up(lb, ("switch", Until::ItIsStuck), "notes:2.0.0")
}

#[test]
#[ignore = "it needs root and debootstrap: make fleet-test"]
fn clocks_are_wrong_and_a_host_is_copied() -> Result<()> {
    let passing = Passing::named("clocks");
    let packages = Packages::made(Version::First)?;
    let fleet = Fleet::up(&passing.0, &packages, &mut tell)?;
    let everywhere = [fleet.host("app-1")?, fleet.host("app-2")?, fleet.host("lb-1")?];
    give_images(&passing, &RELEASES[..2], &everywhere)?;
    let site = Site::notes(&fleet)?;
    site.declare("app-1, app-2", "bake: 1s, drain: 1s")?;
    site.grant(&[])?;
    let loaded = Loaded::with(site, "notes:1.0.0")?;
    a_copy(&loaded, &fleet, &packages)?;
    clocks(&loaded, &fleet)
}

/// `lockstep host list` has the row of the host.
fn row(site: &Site<'_>, host: &Host) -> Result<String> {
    let list = site.lockstep("host list")?;
    let row = list.lines().find(|line| line.starts_with(&host.name));
    Ok(row.with_context(|| format!("{} is not in {list}", host.name))?.to_owned())
}

fn clocks(loaded: &Loaded<'_>, fleet: &Fleet) -> Result<()> {
    let site = &loaded.site;
    let [app_1, c3] = [fleet.host("app-1")?, fleet.host("c3")?];
    for (by, shown, image) in [("+2h", "+2 h", "notes:1.0.0"), ("-2h", "-2 h", "notes:2.0.0")] {
        loaded.without_loss(&format!("the clock of app-1 is {by}"), || {
            app_1.shift_clock(AGENT, by)?;
            until("its clock is told", SOON, || Ok(row(site, app_1)?.contains(shown)))
                .with_context(|| row(site, app_1).unwrap_or_default())?;
            site.lockstep(&format!("deploy production --image {image}"))?;
            let doctor = site.lockstep("doctor production || true")?;
            ensure!(doctor.contains(&format!("its clock is {shown}")), "{doctor}");
            app_1.unset(AGENT, "clock")?;
            loaded.is_settled()
        })?;
    }
    for (by, image) in [("+2h", "notes:1.0.0"), ("-2h", "notes:2.0.0")] {
        loaded.without_loss(&format!("the clock of a coordinator is {by}"), || {
            c3.shift_clock(COORDINATOR, by)?;
            let deploy = format!("--coordinator {}:7443 deploy production --image {image}", c3.address);
            if let Err(failed) = site.lockstep(&deploy) {
                // Another drives what this one opened, and by its clock the time of the lock is over.
                let said = format!("{failed:#}");
                tell(&said);
                ensure!(by == "-2h" && said.contains("the clock of a coordinator is wrong"), "{said}");
            }
            c3.unset(COORDINATOR, "clock")?;
            loaded.is_settled()
        })?;
    }
    Ok(())
}

fn a_copy(loaded: &Loaded<'_>, fleet: &Fleet, packages: &Packages) -> Result<()> {
    let site = &loaded.site;
    let app_2 = fleet.host("app-2")?;
    loaded.without_loss("a copy of a host has its key", || {
        let copy = fleet.copy_of(app_2, "app-2-copy", packages)?;
        let told = format!("app-2: two machines use its key; the one at {} was refused", copy.address);
        until("the copy is told", SOON, || Ok(site.lockstep("host list")?.contains(&told)))?;
        let doctor = site.lockstep("doctor production || true")?;
        ensure!(doctor.contains("two machines use its key"), "{doctor}");
        let deployment = site.begin("notes:1.0.0")?;
        let ended = site.ended(&deployment)?;
        ensure!(ended.is_success(), "{}", ended.told());
        let knows = |host: &Host| host.run(&format!("grep --recursive --text {deployment} {STATE} || true"));
        ensure!(!knows(app_2)?.is_empty(), "the host itself has nothing of {deployment}");
        ensure!(knows(&copy)?.is_empty(), "the copy got work");
        copy.power_off()?;
        loaded.is_settled()
    })
}
