//! Cases that share a stage, because starting one costs seconds: each is a test with a name of its own.
//!
//! Tests run one after the other. A stage is started by the first case of its group that runs, and ends when a case of
//! another group begins, or when a case fails: what is left of a failure must not decide about the next case.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};
use lockstep_core::run::journal::Verdict;
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::traffic::assert_none_lost;
use lockstep_tests::scene::{SOON, Scene};

/// What the cases of a group share.
pub(crate) trait Setup: Sized + Send + 'static {
    /// The name of the group: the first part of each test's name.
    const NAME: &'static str;

    /// Requests in a second, of which none may be lost while a case runs; `None` if nothing is deployed.
    const RATE: Option<u32>;

    fn open() -> Result<Self>;

    fn scene(&self) -> &Scene;
}

/// The one stage that runs.
#[derive(Clone, Default)]
pub(crate) struct SharedStage(Arc<Mutex<Option<Box<dyn Any + Send>>>>);

impl SharedStage {
    fn run<S: Setup>(&self, case: impl FnOnce(&mut S) -> Result<()>) -> Result<()> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // It stays empty if the case panics.
        let mut setup = match current.take().map(Box::<dyn Any + Send>::downcast::<S>) {
            Some(Ok(setup)) => setup,
            Some(Err(other)) => {
                drop(other);
                Box::new(S::open()?)
            }
            None => Box::new(S::open()?),
        };
        case(&mut setup)?;
        *current = Some(setup);
        Ok(())
    }

    /// Ends the stage that runs.
    pub(crate) fn close(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

pub(crate) struct Cases<S> {
    shared: SharedStage,
    trials: Vec<Trial>,
    setup: PhantomData<S>,
}

impl<S: Setup> Cases<S> {
    pub(crate) fn on(shared: &SharedStage) -> Self {
        Self { shared: shared.clone(), trials: Vec::new(), setup: PhantomData }
    }

    /// A request that is refused has no effect at all.
    pub(crate) fn refused(&mut self, name: &str, check: fn(&S) -> Result<()>) {
        self.add(name, move |setup| {
            under_load(setup, |setup| setup.scene().assert_refused("it is refused", |_| check(setup)))
        });
    }

    /// A deployment that fails is rolled back, and is in the history.
    pub(crate) fn rolled_back(&mut self, name: &str, check: fn(&S) -> Result<()>) {
        self.add(name, move |setup| {
            under_load(setup, |setup| setup.scene().assert_rolled_back("it is rolled back", |_| check(setup)))
        });
    }

    /// Any other case.
    pub(crate) fn case(&mut self, name: &str, check: fn(&mut S) -> Result<()>) {
        self.add(name, check);
    }

    pub(crate) fn into_trials(self) -> Vec<Trial> {
        self.trials
    }

    fn add(&mut self, name: &str, case: impl FnOnce(&mut S) -> Result<()> + Send + 'static) {
        let shared = self.shared.clone();
        let name = format!("{}::{}", S::NAME, one_word(name));
        let test = move || shared.run(case).map_err(|error| Failed::from(format!("{error:?}")));
        self.trials.push(Trial::test(name, test));
    }
}

fn under_load<S: Setup>(setup: &S, check: impl FnOnce(&S) -> Result<()>) -> Result<()> {
    let Some(rate) = S::RATE else { return check(setup) };
    let load = setup.scene().stage.load(rate)?;
    until("the load has begun", SOON, || Ok(load.counts().requests > 0))?;
    check(setup)?;
    assert_none_lost(load).context("under load")?;
    Ok(())
}

/// A name that a shell takes as one word.
fn one_word(name: &str) -> String {
    let words = name.split(|letter: char| !(letter.is_alphanumeric() || "._'".contains(letter)));
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_").replace('\'', "")
}

/// Deploys what the next cases need; the deployment must succeed.
pub(crate) fn deploy(scene: &Scene, image: &str) -> Result<()> {
    scene.deploy(image)?.expect_said(0, &["succeeded"])?;
    let last = scene.assert_verdict(Verdict::Succeeded)?;
    ensure!(last.release.image == image, "{last:?}");
    Ok(())
}
