//! Wake-ups: who watches a prefix is told that something below it may have changed, never what.
//! A wake-up that comes while nobody waits is kept until the next wait.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::keys::{Key, Prefix};

/// Wakes whoever watches.
#[derive(Debug, Default)]
pub(in crate::store) struct Watchers {
    // A short list behind a lock that is never held across an await: commits come from many tasks.
    watchers: Mutex<Vec<(Prefix, watch::Sender<()>)>>,
}

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

    /// What has changed until here is about to be looked at: nobody need be woken for it.
    pub fn look(&mut self) {
        self.receiver.mark_unchanged();
    }
}

impl Watchers {
    pub(in crate::store) fn watch(&self, prefix: &Prefix) -> Wakeups {
        let (sender, receiver) = watch::channel(());
        self.lock().push((prefix.clone(), sender));
        Wakeups { receiver }
    }

    pub(in crate::store) fn wake<'a>(&self, keys: impl Iterator<Item = &'a Key> + Clone) {
        self.lock().retain(|(prefix, sender)| {
            if sender.is_closed() {
                return false;
            }
            if keys.clone().any(|key| prefix.covers(key)) {
                sender.send_replace(());
            }
            true
        });
    }

    /// For when nobody knows what may have changed.
    pub(in crate::store) fn wake_all(&self) {
        self.lock().retain(|(_, sender)| {
            sender.send_replace(());
            !sender.is_closed()
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Prefix, watch::Sender<()>)>> {
        // The list is whole at every moment, also when a thread died with the lock.
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
