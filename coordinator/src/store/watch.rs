//! Wake-ups. A watcher of a prefix is told that something below it may have changed, but not what. A wake-up while
//! nobody waits is kept until the next wait.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::keys::{Key, Prefix};

/// Wakes whoever watches.
#[derive(Debug, Default)]
pub(in crate::store) struct Watchers {
    // Behind a lock that is never held across an await: commits come from many tasks.
    watching: Mutex<Watching>,
}

/// By prefix, so that a commit costs as much with a thousand hosts as with one.
#[derive(Debug, Default)]
struct Watching {
    by_prefix: BTreeMap<String, Vec<watch::Sender<()>>>,
    /// How many senders there are, some of which nobody may listen to any more.
    count: usize,
    /// When there are so many, those go.
    full_at: usize,
}

/// The fewest senders that are looked through for those that nobody listens to.
const FULL_MIN: usize = 64;

/// The receiving end of a watch.
#[derive(Debug)]
pub struct Wakeups {
    receiver: watch::Receiver<()>,
}

impl Wakeups {
    /// Waits for a change below the prefix since the watch began or since this last returned. For
    /// ever, when the store is gone: its owner ends then.
    pub async fn changed(&mut self) {
        if self.receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether something below the prefix may have changed since the watch began, or since it was waited for or looked
    /// at.
    pub fn has_changed(&self) -> bool {
        self.receiver.has_changed().unwrap_or(true)
    }

    /// What has changed until here is about to be read: nobody needs to be woken for it.
    pub fn mark_seen(&mut self) {
        self.receiver.mark_unchanged();
    }
}

impl Watchers {
    pub(in crate::store) fn watch(&self, prefix: &Prefix) -> Wakeups {
        let (sender, receiver) = watch::channel(());
        let mut watching = self.lock();
        watching.make_room();
        watching.by_prefix.entry(prefix.as_str().to_owned()).or_default().push(sender);
        Wakeups { receiver }
    }

    pub(in crate::store) fn wake<'a>(&self, keys: impl Iterator<Item = &'a Key>) {
        let watching = self.lock();
        for prefix in keys.flat_map(prefixes) {
            for sender in watching.by_prefix.get(prefix).into_iter().flatten() {
                sender.send_replace(());
            }
        }
    }

    /// For when nobody knows what may have changed.
    pub(in crate::store) fn wake_all(&self) {
        for sender in self.lock().by_prefix.values().flatten() {
            sender.send_replace(());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Watching> {
        // The map is whole at every moment, also when a thread died with the lock.
        self.watching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watching {
    /// Forgets who has gone, as often as the number of those who came has doubled.
    fn make_room(&mut self) {
        if self.count >= self.full_at.max(FULL_MIN) {
            self.by_prefix.retain(|_, senders| {
                senders.retain(|sender| !sender.is_closed());
                !senders.is_empty()
            });
            self.count = self.by_prefix.values().map(Vec::len).sum();
            self.full_at = self.count * 2;
        }
        self.count += 1;
    }
}

/// All that `key` is below: each ends with a slash.
fn prefixes(key: &Key) -> impl Iterator<Item = &str> {
    key.as_str().match_indices('/').map(|(at, _)| &key.as_str()[..=at])
}
