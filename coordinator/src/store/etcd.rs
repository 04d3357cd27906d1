//! The store in etcd, for several coordinators.
//!
//! What must stay true: only the result of a transaction decides, and never a read, a watch or a lease that could be
//! renewed (each can be stale in some version of etcd). The lock call of etcd is not used, because it can give one
//! lock to two holders. A transaction without an answer is unknown and is not sent again from here. No key is read at
//! a past revision within a transaction.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{GetOptions, GetResponse, SortOrder, SortTarget};
use lockstep_core::time::Millis;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;
use tracing::warn;

use super::watch::Watchers;
use super::{
    Committed, Guard, Key, LeaseId, LeaseStanding, Prefix, Store, StoreError, Stored, Wakeups, Write, keys,
    within_limits,
};
use crate::program::settings::EtcdSettings;

mod failure;
mod handshake;
mod members;
mod opening;
mod transaction;
mod version;
mod watching;

pub use opening::OpenError;

use failure::Unanswered;
use members::{Members, Repeat};
use transaction::{Namespace, etcd_lease, lease_of, own_lease, revision};
use watching::Watching;

/// How long a member may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// A lease lives on only if it is renewed in time, so that a member that is slow is left sooner.
const KEEP_LIMIT: Duration = Duration::from_secs(1);

/// How many values come at once: a list holds nobody up for long.
const PAGE: usize = 128;

/// Up to how many values of many keys are read one by one. More are read with everything that is beside them.
const FEW: usize = 16;

pub struct EtcdStore {
    members: Arc<Members>,
    place: Namespace,
    watchers: Arc<Watchers>,
    /// Ends with the store.
    _watching: AbortOnDropHandle<()>,
}

impl EtcdStore {
    /// Opens the store, if a member of etcd answers.
    ///
    /// # Errors
    /// When none does, or when one of them is not what the settings say.
    pub async fn open(settings: &EtcdSettings) -> Result<Self, OpenError> {
        let members = Arc::new(opening::members(settings).await?);
        let place = Namespace::new(&settings.prefix);
        // A member that lost the others a moment ago still says that it is well; only an answer is one.
        range(&members, place.key(keys::meta().key()), GetOptions::new()).await.map_err(|unanswered| {
            OpenError::Unreachable { failures: unanswered.into_source().to_string() }
        })?;
        let watchers = Arc::new(Watchers::default());
        let (begun, has_begun) = oneshot::channel();
        let watching =
            Watching { members: Arc::clone(&members), place: place.clone(), watchers: Arc::clone(&watchers) };
        let watching = AbortOnDropHandle::new(tokio::spawn(watching.run(begun)));
        // Else what is written in the first moments would wake nobody.
        if tokio::time::timeout(ANSWER_LIMIT, has_begun).await.is_err() {
            warn!("cannot watch etcd yet; the coordinator polls for changes");
        }
        Ok(Self { members, place, watchers, _watching: watching })
    }

    /// Everything below `prefix` at one moment, page by page.
    async fn pages(&self, prefix: &Prefix) -> Result<Vec<Stored>, Unanswered> {
        let (mut from, end) = bounds(&self.place.prefix(prefix));
        let mut found = Vec::new();
        let mut moment = 0;
        loop {
            let options =
                GetOptions::new().with_range(end.clone()).with_limit(count(PAGE)).with_revision(moment);
            let mut page = range(&self.members, from.clone(), options).await?;
            if moment == 0 {
                moment = page.header().map_or(0, |header| header.revision());
            }
            let more = page.more();
            found.extend(page.take_kvs().into_iter().map(|kv| self.place.stored(kv)));
            match found.last() {
                // The next key in order is the last one with a zero after it.
                Some(last) if more => from = format!("{}\0", self.place.key(&last.key)),
                Some(_) | None => return Ok(found),
            }
        }
    }

    /// Those below `prefix` whose key ends with `suffix`, at one moment. The keys are read first; `None` if there are so
    /// many that reading everything costs less than reading them one by one.
    async fn few(&self, prefix: &Prefix, suffix: &str) -> Result<Option<Vec<Stored>>, Unanswered> {
        let (from, end) = bounds(&self.place.prefix(prefix));
        let mut keys = range(&self.members, from, GetOptions::new().with_range(end).with_keys_only()).await?;
        let moment = keys.header().map_or(0, |header| header.revision());
        let names = keys.take_kvs().into_iter().map(|kv| self.place.stored(kv).key);
        let wanted: Vec<Key> = names.filter(|key| key.as_str().ends_with(suffix)).collect();
        if wanted.len() > FEW {
            return Ok(None);
        }
        let mut found = Vec::with_capacity(wanted.len());
        for key in &wanted {
            let options = GetOptions::new().with_revision(moment);
            let mut one = range(&self.members, self.place.key(key), options).await?;
            found.extend(one.take_kvs().into_iter().map(|kv| self.place.stored(kv)));
        }
        Ok(Some(found))
    }

    /// As [`Self::pages`], in one piece, which no compaction can come into.
    async fn at_once(&self, prefix: &Prefix) -> Result<Vec<Stored>, Unanswered> {
        let (from, end) = bounds(&self.place.prefix(prefix));
        let mut all = range(&self.members, from, GetOptions::new().with_range(end)).await?;
        Ok(all.take_kvs().into_iter().map(|kv| self.place.stored(kv)).collect())
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        let mut found = range(&self.members, self.place.key(key), GetOptions::new())
            .await
            .map_err(Unanswered::of_repeatable)?;
        Ok(found.take_kvs().pop().map(|kv| self.place.stored(kv)))
    }

    async fn list(&self, prefix: &Prefix) -> Result<Vec<Stored>, StoreError> {
        let listed = match self.pages(prefix).await {
            Err(Unanswered::Refused(status)) if is_compacted(&status) => self.at_once(prefix).await,
            pages => pages,
        };
        listed.map_err(Unanswered::of_repeatable)
    }

    async fn list_named(&self, prefix: &Prefix, last: &str) -> Result<Vec<Stored>, StoreError> {
        let suffix = format!("/{last}");
        match self.few(prefix, &suffix).await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(Unanswered::Refused(status)) if is_compacted(&status) => {}
            Err(unanswered) => return Err(unanswered.of_repeatable()),
        }
        let mut found = self.list(prefix).await?;
        found.retain(|stored| stored.key.as_str().ends_with(&suffix));
        Ok(found)
    }

    async fn page(&self, prefix: &Prefix, from: &Key, most: usize) -> Result<Vec<Stored>, StoreError> {
        if most == 0 {
            // To etcd it means no limit.
            return Ok(Vec::new());
        }
        let (first, end) = bounds(&self.place.prefix(prefix));
        let options = GetOptions::new().with_range(end).with_limit(count(most));
        let from = first.max(self.place.key(from));
        let mut found = range(&self.members, from, options).await.map_err(Unanswered::of_repeatable)?;
        Ok(found.take_kvs().into_iter().map(|kv| self.place.stored(kv)).collect())
    }

    async fn last(&self, prefix: &Prefix, most: usize) -> Result<Vec<Stored>, StoreError> {
        if most > PAGE {
            let mut found = self.list(prefix).await?;
            found.reverse();
            found.truncate(most);
            return Ok(found);
        }
        if most == 0 {
            // To etcd it means no limit.
            return Ok(Vec::new());
        }
        let (from, end) = bounds(&self.place.prefix(prefix));
        let options = GetOptions::new()
            .with_range(end)
            .with_sort(SortTarget::Key, SortOrder::Descend)
            .with_limit(count(most));
        let mut found = range(&self.members, from, options).await.map_err(Unanswered::of_repeatable)?;
        Ok(found.take_kvs().into_iter().map(|kv| self.place.stored(kv)).collect())
    }

    async fn commit(&self, guards: Vec<Guard>, writes: Vec<Write>) -> Result<Committed, StoreError> {
        within_limits(&guards, &writes)?;
        let transaction = self.place.transaction(&guards, &writes);
        let answered = self
            .members
            .call(Repeat::IfUnsent, ANSWER_LIMIT, |client| {
                let transaction = transaction.clone();
                async move { client.kv_client().txn(transaction).await }
            })
            .await;
        match answered {
            Ok(answer) if answer.succeeded() => {
                let at = answer.header().map_or(0, |header| header.revision());
                Ok(Committed::Yes { revision: revision(at) })
            }
            Ok(_) => Ok(Committed::No),
            Err(Unanswered::Refused(status)) if status.code() == Code::NotFound => match lease_of(&writes) {
                Some(lease) => Err(StoreError::NoSuchLease(lease)),
                None => Err(Unanswered::Refused(status).of_transaction()),
            },
            Err(unanswered) => Err(unanswered.of_transaction()),
        }
    }

    fn watch(&self, prefix: &Prefix) -> Wakeups {
        self.watchers.watch(prefix)
    }

    async fn grant(&self, lives: Millis) -> Result<LeaseId, StoreError> {
        let seconds = i64::try_from(lives.0.div_ceil(1000)).unwrap_or(i64::MAX);
        // One whose answer is lost ends by itself.
        let granted = self
            .members
            .call(Repeat::Always, ANSWER_LIMIT, |client| async move {
                client.lease_client().grant(seconds, None).await
            })
            .await
            .map_err(Unanswered::of_repeatable)?;
        Ok(own_lease(granted.id()))
    }

    /// One sign of life on a stream of its own: a stream that is kept for later ones hangs without a word
    /// when its member is frozen.
    async fn keep(&self, lease: LeaseId) -> Result<LeaseStanding, StoreError> {
        let id = etcd_lease(lease);
        let standing = self
            .members
            .call(Repeat::Always, KEEP_LIMIT, |client| async move {
                let mut leases = client.lease_client();
                match leases.keep_alive(id).await {
                    Ok(_) => Ok(LeaseStanding::Alive),
                    // The crate says this for other reasons too.
                    Err(etcd_client::Error::LeaseKeepAliveError(_)) => {
                        let left = leases.time_to_live(id, None).await?;
                        Ok(if left.ttl() > 0 { LeaseStanding::Alive } else { LeaseStanding::Gone })
                    }
                    Err(error) => Err(error),
                }
            })
            .await;
        standing.map_err(Unanswered::of_repeatable)
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let id = etcd_lease(lease);
        let revoked = self
            .members
            .call(
                Repeat::Always,
                ANSWER_LIMIT,
                |client| async move { client.lease_client().revoke(id).await },
            )
            .await;
        match revoked {
            Ok(_) => Ok(()),
            // It has ended already.
            Err(Unanswered::Refused(status)) if status.code() == Code::NotFound => Ok(()),
            Err(unanswered) => Err(unanswered.of_repeatable()),
        }
    }
}

async fn range(members: &Members, key: String, options: GetOptions) -> Result<GetResponse, Unanswered> {
    members
        .call(Repeat::Always, ANSWER_LIMIT, |client| {
            let (key, options) = (key.clone(), options.clone());
            // What we wrote is ours to read, however much it is.
            let mut client = client.kv_client().max_decoding_message_size(usize::MAX);
            async move { client.get(key, Some(options)).await }
        })
        .await
}

fn is_compacted(status: &tonic::Status) -> bool {
    status.code() == Code::OutOfRange
}

/// The first key below a prefix, and the first after all of them: it ends with a slash, and a zero is the
/// character after that.
fn bounds(prefix: &str) -> (String, String) {
    (prefix.to_owned(), format!("{}0", prefix.trim_end_matches('/')))
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
