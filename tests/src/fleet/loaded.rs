//! An environment under load, and what a fault costs its users.

use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use lockstep_core::view::host_status::Presence;

use super::{Fleet, RATE, SOON, Site, tell};
use crate::bed::wait::until;
use crate::load::{Load, Settings};

/// So many answers say who serves.
const SETTLED_ANSWERS: u64 = 100;

/// An environment under load.
pub struct Loaded<'a> {
    pub site: Site<'a>,
    pub load: Load,
    /// How many requests can be on their way at one instant.
    pub connections: u64,
}

/// Two environments under load: `notes` on the first two app hosts, `memos` on the last two. A host at an end is the
/// concern of one of them.
///
/// # Errors
/// When one cannot be deployed.
pub fn side_by_side(fleet: &Fleet) -> Result<[Loaded<'_>; 2]> {
    let (notes, memos) = (Site::notes(fleet)?, Site::memos(fleet)?);
    notes.declare("app-1, app-2", "bake: 1s, drain: 1s")?;
    notes.grant(&[])?;
    let notes = Loaded::with(notes, "notes:1.0.0")?;
    memos.declare("app-2, app-3", "bake: 1s, drain: 1s")?;
    memos.grant(&[])?;
    Ok([notes, Loaded::with(memos, "notes:1.0.0")?])
}

/// Does both at the same time.
///
/// # Errors
/// Those of one of them.
pub fn at_once(one: impl FnOnce() -> Result<()>, other: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    thread::scope(|scope| {
        let other = scope.spawn(other);
        one()?;
        other.join().unwrap_or_else(|_| Err(anyhow!("bug: the test panicked")))
    })
}

/// What a fault cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    pub requests: u64,
    pub failed: u64,
    /// Of these, those for which nobody took the connection.
    pub refused: u64,
}

impl<'a> Loaded<'a> {
    /// Under load once its first release serves.
    ///
    /// # Errors
    /// When it cannot be deployed.
    pub fn with(site: Site<'a>, image: &str) -> Result<Self> {
        site.lockstep(&format!("deploy production --image {image}"))?;
        let connections = u64::try_from(Settings::notes((site.lb.address, 80).into(), RATE).connections)?;
        let load = site.load()?;
        Ok(Self { site, load, connections })
    }

    /// What requests came to while `act` was done.
    ///
    /// # Errors
    /// Those of `act`, or when nothing was asked.
    pub fn cost(&self, what: &str, act: impl FnOnce() -> Result<()>) -> Result<Cost> {
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
    ///
    /// # Errors
    /// Those of `act`, or when a request failed.
    pub fn without_loss(&self, what: &str, act: impl FnOnce() -> Result<()>) -> Result<()> {
        let Cost { failed, .. } = self.cost(what, act)?;
        ensure!(failed == 0, "{what}: {failed} requests failed");
        Ok(())
    }

    /// Lets so many more requests be answered.
    ///
    /// # Errors
    /// When they do not come.
    pub fn goes_on_for(&self, requests: u64) -> Result<()> {
        let wanted = self.load.counts().requests + requests;
        until("requests go on", SOON, || Ok(self.load.counts().requests >= wanted))
    }

    /// The record, the hosts and the answers agree, nobody has the lock, and nobody owes anything.
    ///
    /// # Errors
    /// When that is not so for long.
    pub fn is_settled(&self) -> Result<()> {
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
