//! Who looks every second whether somebody does what there is to do: a deployment that merely ends some
//! time later than it could have breaks nothing else.

use std::sync::Arc;

use lockstep_coordinator::store::keys;

use crate::invariant::ENDS;
use crate::world::{World, wait};

const LOOK_EVERY_MS: u64 = 1_000;

/// How long a lock may be free while a deployment is open and nothing is in the way.
const FREE_MS_MAX: u64 = 4_000;

/// How long a report may wait to be taken in.
const UNREAD_MS_MAX: u64 = 8_000;

/// Looks for ever.
pub async fn watch_over(world: Arc<World>) {
    let (mut free_since, mut unread_since) = (None, None);
    loop {
        wait(LOOK_EVERY_MS).await;
        let now = world.now();
        let hindered_until = world.lock().check.held_up_until();
        let is_open = world.store.peek(&world.keys.open).is_some();
        if !is_open || now <= hindered_until {
            (free_since, unread_since) = (None, None);
            continue;
        }
        let is_free = world.store.peek(&world.keys.lock).is_none();
        let since = *free_since.get_or_insert(now);
        if !is_free {
            free_since = None;
        } else if now - since >= FREE_MS_MAX {
            world.break_off(ENDS, "the lock is free, and nobody takes it");
        }
        let report = world.store.peek_all(&keys::reports(&world.key)).into_iter().next();
        let Some(report) = report else {
            unread_since = None;
            continue;
        };
        let (key, since) = unread_since.get_or_insert_with(|| (report.key.clone(), now));
        if *key != report.key {
            unread_since = None;
        } else if now - *since >= UNREAD_MS_MAX {
            world.break_off(ENDS, "a report is there, and nobody reads it");
        }
    }
}
