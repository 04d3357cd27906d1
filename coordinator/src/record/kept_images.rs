//! The images that each environment keeps for rollbacks. Plans of other environments must not remove them, because
//! images belong to a host, and a host runs many environments.
//!
//! What must stay true: no plan removes an image that another environment may roll back to, as far as the record says
//! when the plan is made. What an environment keeps changes only with its live release, so it is read once for each
//! revision of that. Whether any has changed is checked only when something below the environments did.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt, TryStreamExt};
use lockstep_core::id::Digest;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::planner::{IMAGES_KEPT_MAX, images_kept};
use lockstep_core::record::live::LiveRelease;
use lockstep_core::time::{Millis, Timestamp};
use tokio::sync::Mutex;

use crate::record::history::Past;
use crate::store::{Revision, Store, StoreError, Stored, Wakeups, keys};

/// How long what was read is taken for true without a wake-up: a watch is only a hint. A plan removes images
/// at the end of its deployment, so that it is older than this when it does.
const LOOK_EVERY: Millis = Millis::from_secs(30);

/// How many histories are read at a time.
const AT_A_TIME: usize = 16;

/// What is kept, read anew as far as the record has changed.
#[derive(Default)]
pub struct KeptImages {
    // Held while it is read: of several plans at one moment, one reads for all.
    known: Mutex<Option<Known>>,
}

struct Known {
    wakeups: Wakeups,
    read_at: Timestamp,
    by_environment: BTreeMap<EnvironmentKey, Kept>,
}

/// What one environment keeps.
struct Kept {
    live: Revision,
    images: Vec<Digest>,
}

impl KeptImages {
    /// Which `images` other environments than this one keep.
    ///
    /// # Errors
    /// When the store does not answer, or holds what cannot be read.
    pub async fn elsewhere(
        &self,
        store: &dyn Store,
        environment: &EnvironmentKey,
        images: &BTreeSet<&Digest>,
        now: Timestamp,
    ) -> Result<BTreeSet<Digest>, StoreError> {
        let mut known = self.known.lock().await;
        let current = match known.take() {
            Some(known) if known.is_current(now) => known,
            before => Known::read(store, before, now).await?,
        };
        let elsewhere = current.by_environment.iter().filter(|(other, _)| *other != environment);
        let kept = elsewhere.flat_map(|(_, kept)| &kept.images);
        let kept = kept.filter(|image| images.contains(image)).cloned().collect();
        *known = Some(current);
        Ok(kept)
    }
}

impl Known {
    fn is_current(&self, now: Timestamp) -> bool {
        !self.wakeups.has_changed() && now.since(self.read_at) < LOOK_EVERY
    }

    /// Reads what changed since `before`.
    async fn read(store: &dyn Store, before: Option<Self>, now: Timestamp) -> Result<Self, StoreError> {
        let (mut wakeups, mut before) = match before {
            Some(Self { wakeups, by_environment, .. }) => (wakeups, by_environment),
            None => (store.watch(&keys::environments()), BTreeMap::new()),
        };
        wakeups.mark_seen();
        // Where nothing is live, nothing was ever good.
        let lives = store.list_named(&keys::environments(), keys::LIVE).await?;
        let mut known = BTreeMap::new();
        let mut changed = Vec::new();
        for live in &lives {
            let Some(environment) = keys::environment_of(&live.key) else { continue };
            match before.remove(&environment) {
                Some(kept) if kept.live == live.modified => {
                    known.insert(environment, kept);
                }
                Some(_) | None => changed.push(kept(store, environment, live)),
            }
        }
        let read: Vec<_> = stream::iter(changed).buffer_unordered(AT_A_TIME).try_collect().await?;
        known.extend(read);
        Ok(Self { wakeups, read_at: now, by_environment: known })
    }
}

async fn kept(
    store: &dyn Store,
    environment: EnvironmentKey,
    stored: &Stored,
) -> Result<(EnvironmentKey, Kept), StoreError> {
    let live: LiveRelease = stored.read()?;
    let mut past = Past::of(store, &environment);
    let all_of_them =
        |past: &[_]| Some(images_kept(Some(&live), past)).filter(|kept| kept.len() >= IMAGES_KEPT_MAX);
    let found = past.find(all_of_them).await?;
    let images = found.unwrap_or_else(|| images_kept(Some(&live), past.read()));
    Ok((environment, Kept { live: stored.modified, images }))
}
