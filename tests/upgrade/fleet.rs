//! From the packages of an earlier revision to those of this one, with everything that there is to lose:
//! `make upgrade-test FROM=<revision>`.
//!
//! They need root, debootstrap, minutes, and the programs of the earlier revision: so they are ignored elsewhere.

use std::env;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lockstep_tests::bed::wait::until;
use lockstep_tests::fleet::{
    Ended, Fleet, Held, Host, Kind, Loaded, Packages, Passing, SOON, Sequence, Site, Version, give_images,
    tell,
};

#[path = "fleet/recorded.rs"]
mod recorded;

use recorded::Recorded;

const AGENT: &str = "lockstep-agent";

/// A switch and a bake that are open for much longer fail (30 s), and their deployment is rolled back: an upgrade may
/// take longer than that on a machine that has other things to do.
const SHORT_STEP: Duration = Duration::from_secs(20);

/// Where a failure of the upgraded programs shows.
const UPGRADED: &str = "with the upgraded programs";

const SECRET: &str = "NOTES_SECRET";
const SECRET_VALUE: &str = "kept-by-the-record";

/// What is upgraded to what, as `tests/upgrade.sh` says it.
struct Upgrade {
    from: Packages,
    to: Packages,
    told: String,
    sequence: Sequence,
}

impl Upgrade {
    fn asked() -> Result<Self> {
        let asked =
            |name: &str| env::var(name).with_context(|| format!("{name} is not set: make upgrade-test"));
        let from = asked("UPGRADE_FROM")?;
        let upgrade = Self {
            from: Packages::of_revision(&from)?,
            to: Packages::made(Version::Next)?,
            told: format!("{from} to {}", asked("UPGRADE_TO")?),
            sequence: env::var("UPGRADE_ORDER").unwrap_or_default().parse()?,
        };
        tell(&format!("from {}", upgrade.told));
        Ok(upgrade)
    }

    /// Upgrades every host.
    fn of(fleet: &Fleet, sequence: &Sequence) -> Result<()> {
        let begun = Instant::now();
        fleet.upgrade(sequence)?;
        let took = begun.elapsed();
        tell(&format!(
            "{} hosts were upgraded in {:.1} s, {sequence:?}",
            fleet.hosts().len(),
            took.as_secs_f64()
        ));
        Ok(())
    }
}

/// Whom an operator has let in, and into what.
struct People {
    /// A token that nobody has used yet.
    unused: String,
}

impl People {
    /// Operators of each kind, a registry, a secret that stands in no file.
    fn of(site: &Site<'_>) -> Result<Self> {
        site.forget_env_file()?;
        site.lockstep(&format!("secret set production {SECRET} <<< {SECRET_VALUE}"))?;
        site.lockstep("registry login registry.example:5000 --username anna <<< a-password")?;
        let environment = site.environment();
        let token = |name: &str, role: &str| {
            let said = site.lockstep(&format!("operator add {name} --env '{environment}' --role {role}"))?;
            // An earlier revision prints the token by itself, and this one the line that has it.
            let found = said.split_whitespace().find(|word| word.starts_with("LS1."));
            found.map(ToOwned::to_owned).context("no token is printed")
        };
        log_in(site, "ci", &token("ci", "deploy")?)?;
        log_in(site, "gone", &token("gone", "admin")?)?;
        site.lockstep("operator revoke gone")?;
        let unused = token("late", "read")?;
        Ok(Self { unused })
    }

    /// Certificates and tokens of before are good, and what was withdrawn is not.
    fn are_known(&self, site: &Site<'_>) -> Result<()> {
        log_in(site, "late", &self.unused)?;
        for name in ["ci", "late"] {
            as_operator(site, name, &format!("history {}", site.environment()))?;
        }
        let refused = as_operator(site, "gone", &format!("history {}", site.environment()));
        ensure!(refused.is_err(), "an operator who was revoked is let in");
        let refused = as_operator(site, "late", &format!("rollback {}", site.environment()));
        ensure!(refused.is_err(), "an operator who may read deploys");
        Ok(())
    }
}

fn as_operator(site: &Site<'_>, name: &str, arguments: &str) -> Result<String> {
    site.lockstep(&format!("--credential /root/{name} {arguments}"))
}

fn log_in(site: &Site<'_>, name: &str, token: &str) -> Result<()> {
    let coordinators = site.fleet().coordinators();
    let coordinator = coordinators.first().context("the fleet has no coordinator")?;
    as_operator(site, name, &format!("--coordinator {coordinator} login <<< {token}"))?;
    Ok(())
}

/// The containers of what is live have the values of the record.
fn has_its_secrets(site: &Site<'_>, host: &Host, image: &str) -> Result<()> {
    let label = format!("--filter label=lockstep.environment={}", site.environment());
    let variables = host.run(&format!(
        "docker inspect --format '{{{{json .Config.Env}}}}' $(docker ps --quiet {label} --filter ancestor={image})"
    ))?;
    for wanted in [format!("{SECRET}={SECRET_VALUE}"), "DATABASE_URL=postgres://".to_owned()] {
        ensure!(variables.contains(&wanted), "{image} on {} runs without {wanted}", host.name);
    }
    Ok(())
}

/// It went on where it was held, and ended.
fn succeeded(what: &str, ended: &Ended) -> Result<()> {
    tell(&format!("{what}: {}", ended.told()));
    ensure!(ended.is_success(), "{what}: {}", ended.told());
    Ok(())
}

/// [`succeeded`], unless the step was open for too long, which is no fault of the upgraded programs.
fn succeeded_if_short(what: &str, open_for: Duration, ended: &Ended) -> Result<()> {
    if ended.is_success() || open_for < SHORT_STEP {
        return succeeded(what, ended);
    }
    tell(&format!("NOT SHOWN: {what}: the step was open for {} s: {}", open_for.as_secs(), ended.told()));
    ensure!(ended.summary.verdict.is_some(), "{what}: {}", ended.told());
    Ok(())
}

fn nothing_was_lost(all: &[&Loaded<'_>]) -> Result<()> {
    for loaded in all {
        let counts = loaded.load.counts();
        let environment = loaded.site.environment();
        tell(&format!("{environment}: {} of {} requests failed in all", counts.failed, counts.requests));
        ensure!(counts.failed == 0, "{environment}: {} requests failed", counts.failed);
    }
    Ok(())
}

const RELEASES: [(&str, u32); 3] = [("notes:1.0.0", 1), ("notes:2.0.0", 2), ("notes:3.0.0", 2)];

#[test]
#[ignore = "it needs root, debootstrap and an earlier revision: make upgrade-test"]
fn a_fleet_is_upgraded_while_deployments_are_open() -> Result<()> {
    let upgrade = Upgrade::asked()?;
    let passing = Passing::named("upgrade");
    let fleet = Fleet::up(&passing.0, &upgrade.from, &mut tell)?;
    let [app_1, app_3, lb_2] = [fleet.host("app-1")?, fleet.host("app-3")?, fleet.host("lb-2")?];
    give_images(&passing, &RELEASES, &[app_1, fleet.host("app-2")?, app_3, fleet.host("lb-1")?])?;
    fleet.obey_orders()?;
    fleet.on_all(|host| upgrade.to.bring(host))?;

    let (notes, memos, drafts) = (Site::notes(&fleet)?, Site::memos(&fleet)?, Site::drafts(&fleet)?);
    // The others need the tables that its migrations make.
    notes.declare("app-1, app-2", "bake: 1s, drain: 1s")?;
    let notes = Loaded::with(notes, "notes:1.0.0")?;
    // Its nginx is reloaded for its site: no other site of it is under load yet.
    drafts.declare("app-3", "bake: 1s, drain: 1s")?;
    drafts.lockstep("deploy production --image notes:1.0.0")?;
    drafts.lockstep("lock freeze production --reason 'the fair opens at nine' --for 6h")?;
    memos.declare("app-2, app-3", "bake: 1s, drain: 1s")?;
    let memos = Loaded::with(memos, "notes:1.0.0")?;
    let people = People::of(&notes.site)?;
    notes.site.lockstep("deploy production --image notes:2.0.0")?;
    notes.site.lockstep("deploy production --image notes:3.0.0")?;
    notes.site.lockstep("rollback production")?;
    memos.site.lockstep("deploy production --image notes:2.0.0")?;

    let all = [&notes.site, &memos.site, &drafts];
    let before = Recorded::of(&fleet, &all)?.and_live(&drafts, app_3)?;
    // Not when it begins: an agent that ends where no coordinator is fails a step that needs secrets.
    let starts = Held::after(&notes.site, "notes:3.0.0", ("start", app_1))?;
    let switches = Held::when(&memos.site, "notes:3.0.0", ("switch", lb_2))?;
    let begun = Instant::now();
    Upgrade::of(&fleet, &upgrade.sequence)?;
    let open_for = begun.elapsed();
    succeeded("a deployment that is open at its start", &starts.ended().context(UPGRADED)?)?;
    succeeded_if_short(
        "a deployment that is open at its switch",
        open_for,
        &switches.ended().context(UPGRADED)?,
    )?;
    notes.is_settled()?;
    memos.is_settled()?;
    let after = Recorded::of(&fleet, &all).and_then(|after| after.and_live(&drafts, app_3));
    before.is_kept_in(&after.context(UPGRADED)?)?;

    has_its_secrets(&notes.site, app_1, "notes:3.0.0")?;
    people.are_known(&notes.site)?;
    notes.site.lockstep("deploy production --image notes:2.0.0")?;
    has_its_secrets(&notes.site, app_1, "notes:2.0.0")?;
    notes.site.lockstep("rollback production")?;
    memos.site.lockstep("deploy production --image notes:2.0.0")?;
    let frozen = drafts.lockstep("deploy production --image notes:2.0.0");
    let said = format!("{:#}", frozen.err().context("a frozen environment was deployed to")?);
    ensure!(said.contains("the fair opens at nine"), "{said}");
    drafts.lockstep("lock thaw production")?;
    drafts.lockstep("deploy production --image notes:2.0.0")?;
    ensure!(drafts.answer()?.contains("x-version: 2.0.0"), "drafts does not serve what was deployed");
    notes.is_settled()?;
    memos.is_settled()?;
    nothing_was_lost(&[&notes, &memos])?;
    tell(&format!("a fleet over etcd, upgraded from {}: {before}", upgrade.told));
    Ok(())
}

#[test]
#[ignore = "it needs root, debootstrap and an earlier revision: make upgrade-test"]
fn one_machine_is_upgraded_while_a_deployment_bakes() -> Result<()> {
    let upgrade = Upgrade::asked()?;
    let passing = Passing::named("upgrade-one");
    let fleet = Fleet::start(&passing.0, &[("bare", Kind::Bare, 11)], &mut tell)?;
    let machine = fleet.host("bare")?;
    upgrade.from.install(machine)?;
    fleet.start_services_of(machine)?;
    fleet.let_everybody_in()?;
    machine.run("lockstep up --roles app,lb,db")?;
    give_images(&passing, &RELEASES, &[machine])?;
    machine.obey_orders()?;
    upgrade.to.bring(machine)?;
    let site = Site::alone(&fleet, machine);
    until("the machine is connected", SOON, || Ok(machine.run("lockstep host list")?.contains("connected")))?;
    site.declare("bare", "bake: 1s, drain: 1s")?;
    let notes = Loaded::with(site, "notes:1.0.0")?;
    let people = People::of(&notes.site)?;
    notes.site.lockstep("deploy production --image notes:2.0.0")?;

    let before = Recorded::of(&fleet, &[&notes.site])?;
    let bakes = Held::when(&notes.site, "notes:3.0.0", ("bake", machine))?;
    let begun = Instant::now();
    Upgrade::of(&fleet, &Sequence::AtOnce)?;
    let open_for = begun.elapsed();
    succeeded_if_short("a deployment that is open at its bake", open_for, &bakes.ended().context(UPGRADED)?)?;
    notes.is_settled()?;
    before.is_kept_in(&Recorded::of(&fleet, &[&notes.site]).context(UPGRADED)?)?;

    has_its_secrets(&notes.site, machine, "notes:3.0.0")?;
    people.are_known(&notes.site)?;
    let said = machine.run("lockstep up --roles app,lb,db")?;
    tell(&format!("lockstep up after the upgrade:\n{said}"));
    until("its agent runs", SOON, || machine.is_active(AGENT))?;
    notes.is_settled()?;
    notes.site.lockstep("deploy production --image notes:2.0.0")?;
    has_its_secrets(&notes.site, machine, "notes:2.0.0")?;
    notes.site.lockstep("rollback production")?;
    notes.is_settled()?;
    nothing_was_lost(&[&notes])?;
    tell(&format!("one machine over SQLite, upgraded from {}: {before}", upgrade.told));
    Ok(())
}
