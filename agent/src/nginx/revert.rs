//! Takes a site back: restores the one before, or removes it.

use lockstep_core::id::DeploymentId;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::run::journal::StepFailure;
use lockstep_core::slot::Slot;
use lockstep_runtime::durable;

use super::{InstalledSite, Nginx, PreviousSite, SiteRevert, additions, failed};

impl Nginx {
    /// Restores the site as it was before `deployment` installed its own, or removes it if there was none.
    ///
    /// # Errors
    /// When it cannot be written, or nginx rejects it.
    pub async fn restore(
        &self,
        environment: &EnvironmentKey,
        deployment: &DeploymentId,
    ) -> Result<SiteRevert, StepFailure> {
        let previous = self.previous_site(environment).map_err(|error| failed(environment, &error))?;
        // Else it was refused before anything was touched, and what is remembered is of another.
        let Some(previous) = previous.filter(|previous| previous.deployment == *deployment) else {
            return Ok(SiteRevert::Unchanged);
        };
        if self.is_changed_since(environment, &previous)? {
            return Ok(SiteRevert::LeftAsChanged);
        }
        self.restore_previous_site(environment, &previous).map_err(|error| failed(environment, &error))?;
        self.test().await?;
        self.signal()?;
        Ok(SiteRevert::Yes)
    }

    /// Removes the site of this environment, so that the undo of `deployment` can restore it.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn take_down(
        &self,
        environment: &EnvironmentKey,
        deployment: &DeploymentId,
    ) -> Result<SiteRevert, StepFailure> {
        let slot = Some(self.slot(environment));
        let saved = self.save_previous_site(environment, deployment, slot);
        saved.map_err(|error| failed(environment, &error))?;
        let removed = self.remove(environment).await?;
        if removed == SiteRevert::Yes {
            self.switch(environment, Slot::Blue).map_err(|error| failed(environment, &error))?;
        }
        Ok(removed)
    }

    /// Removes the site of this environment.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn remove(&self, environment: &EnvironmentKey) -> Result<SiteRevert, StepFailure> {
        let installed = self.installed(environment).map_err(|error| failed(environment, &error))?;
        if let InstalledSite::Changed(_) = installed {
            return Ok(SiteRevert::LeftAsChanged);
        }
        self.remove_site(environment).map_err(|error| failed(environment, &error))?;
        additions::tidy(&self.additions(environment)).map_err(|error| failed(environment, &error))?;
        self.test().await?;
        self.signal()?;
        Ok(SiteRevert::Yes)
    }

    /// Whether somebody has changed the site since it replaced `previous`.
    fn is_changed_since(
        &self,
        environment: &EnvironmentKey,
        previous: &PreviousSite,
    ) -> Result<bool, StepFailure> {
        let current =
            durable::read(&self.site_file(environment)).map_err(|error| failed(environment, &error))?;
        if current == previous.file {
            return Ok(false);
        }
        let installed = self.installed(environment).map_err(|error| failed(environment, &error))?;
        Ok(matches!(installed, InstalledSite::Changed(_)))
    }
}
