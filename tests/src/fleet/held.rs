//! A deployment that is held at a moment of one of its steps.

use anyhow::Result;
use lockstep_core::id::DeploymentId;

use super::{Ended, Host, Moment, Order, Site};

/// A deployment that stands still at a moment of one of its steps.
pub struct Held<'a> {
    site: &'a Site<'a>,
    deployment: DeploymentId,
    host: &'a Host,
}

impl<'a> Held<'a> {
    /// Begins it, and waits until its step of that kind begins on that host.
    ///
    /// # Errors
    /// When it does not come there.
    pub fn when(site: &'a Site<'a>, image: &str, (kind, host): (&str, &'a Host)) -> Result<Self> {
        let step = site.planned(image, (kind, host))?;
        Self::at(site, image, (Moment::Begins(step), host))
    }

    /// Begins it, and waits until its step of that kind is done on that host, and nobody else knows it.
    ///
    /// # Errors
    /// When it does not come there.
    pub fn after(site: &'a Site<'a>, image: &str, (kind, host): (&str, &'a Host)) -> Result<Self> {
        let step = site.planned(image, (kind, host))?;
        Self::at(site, image, (Moment::IsDone(step), host))
    }

    fn at(site: &'a Site<'a>, image: &str, (moment, host): (Moment, &'a Host)) -> Result<Self> {
        host.order(moment, Order::StandStill)?;
        let deployment = site.begin(image)?;
        host.stands_still()?;
        Ok(Self { site, deployment, host })
    }

    pub fn deployment(&self) -> &DeploymentId {
        &self.deployment
    }

    /// [`Site::ended`], for whose host goes on, or is begun anew.
    ///
    /// # Errors
    /// When it does not end.
    pub fn ended(&self) -> Result<Ended> {
        self.site.ended(&self.deployment)
    }

    /// # Errors
    /// When it does not end.
    pub fn goes_on(&self) -> Result<Ended> {
        self.host.goes_on()?;
        self.ended()
    }
}
