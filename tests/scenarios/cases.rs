//! Cases that share a stage, because starting one costs seconds: each is run, and all that failed are told
//! together. `SCENARIO_CASE=<part of a name>` runs only some.

use std::env;

use anyhow::{Result, bail};
use lockstep_core::run::journal::Verdict;

use crate::scene::{Scene, assert_verdict};
use crate::world::World;

pub(crate) struct Cases<'a> {
    scene: &'a Scene,
    only: Option<String>,
    run: usize,
    failed: Vec<String>,
}

impl<'a> Cases<'a> {
    pub(crate) fn on(scene: &'a Scene) -> Self {
        Self { scene, only: env::var("SCENARIO_CASE").ok(), run: 0, failed: Vec::new() }
    }

    /// What is refused has no effect at all.
    pub(crate) fn refused(&mut self, name: &str, check: impl FnOnce(&Scene) -> Result<()>) {
        self.case(name, |scene| {
            let before = World::of(scene)?;
            check(scene)?;
            before.assert_same(&World::of(scene)?)
        });
    }

    /// What fails is taken back, and stands in the history.
    pub(crate) fn rolled_back(&mut self, name: &str, check: impl FnOnce(&Scene) -> Result<()>) {
        self.case(name, |scene| {
            let before = (World::of(scene)?, scene.history()?.len());
            check(scene)?;
            assert_verdict(scene, Verdict::RolledBack)?;
            if scene.history()?.len() != before.1 + 1 {
                bail!("the history has grown by {}", scene.history()?.len() - before.1);
            }
            before.0.assert_live_same(&World::of(scene)?)
        });
    }

    #[expect(clippy::print_stderr, reason = "a long row of cases tells how far it is")]
    pub(crate) fn case(&mut self, name: &str, check: impl FnOnce(&Scene) -> Result<()>) {
        if self.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            return;
        }
        self.run += 1;
        match check(self.scene) {
            Ok(()) => eprintln!("  {name}: ok"),
            Err(error) => {
                eprintln!("  {name}: FAILED\n{error:#}");
                self.failed.push(format!("{name}: {error:#}"));
            }
        }
    }

    pub(crate) fn end(self) -> Result<()> {
        if self.failed.is_empty() {
            return Ok(());
        }
        bail!("{} of {} cases failed:\n\n{}", self.failed.len(), self.run, self.failed.join("\n\n"))
    }
}
