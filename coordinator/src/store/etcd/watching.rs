//! Wake-ups from etcd. One task watches everything, and starts again at another member when the watch ends. After an
//! interruption it wakes every watcher, because changes may have been missed.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{WatchOptions, WatchStream};
use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::members::{Connection, Members};
use super::transaction::Namespace;
use crate::store::Key;
use crate::store::keys;
use crate::store::watch::Watchers;

/// How long a watch may take to begin.
const BEGIN_LIMIT: Duration = Duration::from_secs(3);

/// How long nobody is asked after a watch could not begin.
const PAUSE: Duration = Duration::from_millis(500);

/// What comes in one message; etcd packs what happened at the same time together.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

pub(super) struct Watching {
    pub(super) members: Arc<Members>,
    pub(super) place: Namespace,
    pub(super) watchers: Arc<Watchers>,
}

impl Watching {
    /// Watches for ever. Says on `begun` when the first watch has begun.
    pub(super) async fn run(self, begun: oneshot::Sender<()>) {
        let mut begun = Some(begun);
        loop {
            match self.begin().await {
                Ok((connection, stream)) => {
                    match begun.take() {
                        // Nobody waits when opening was given up.
                        Some(begun) => begun.send(()).unwrap_or(()),
                        // Nobody knows what happened since the last one ended.
                        None => self.watchers.wake_all(),
                    }
                    let why = self.follow(&connection, stream).await;
                    debug!(endpoint = connection.endpoint, why, "the watch ended; starting another");
                }
                Err(why) => {
                    warn!(why, "cannot watch etcd; the coordinator polls for changes");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// A watch from this moment on. A past one could not be had after a compaction, and who is woken
    /// looks for itself.
    async fn begin(&self) -> Result<(Connection, WatchStream), String> {
        let connection = self.members.connection().await.map_err(|failures| failures.to_string())?;
        let mut client = connection.client.watch_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
        let begin = async {
            let options = WatchOptions::new().with_prefix();
            let mut stream = client.watch(self.place.prefix(&keys::all()), Some(options)).await?;
            let first = stream.message().await?;
            Ok::<_, etcd_client::Error>((stream, first.is_some_and(|first| first.created())))
        };
        let why = match tokio::time::timeout(BEGIN_LIMIT, begin).await {
            Ok(Ok((stream, true))) => return Ok((connection, stream)),
            Ok(Ok((_, false))) => "etcd did not start the watch".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer in {} ms", BEGIN_LIMIT.as_millis()),
        };
        self.members.give_up(&connection).await;
        Err(format!("{}: {why}", connection.endpoint))
    }

    /// Wakes whom it concerns until the watch ends, and says why it did.
    async fn follow(&self, connection: &Connection, mut stream: WatchStream) -> String {
        loop {
            let message = tokio::select! {
                message = stream.message() => message,
                // A stream to a member that is frozen ends much later than calls to it do.
                () = connection.given_up.cancelled() => return "the member was disconnected".to_owned(),
            };
            match message {
                Ok(Some(message)) if message.canceled() => return message.cancel_reason().to_owned(),
                Ok(Some(message)) => {
                    let keys: Vec<Key> = message
                        .events()
                        .iter()
                        .filter_map(|event| event.kv())
                        .map(|kv| self.place.own(kv.key()))
                        .collect();
                    self.watchers.wake(keys.iter());
                }
                Ok(None) => return "etcd ended the watch".to_owned(),
                Err(error) => {
                    self.members.give_up(connection).await;
                    return error.to_string();
                }
            }
        }
    }
}
