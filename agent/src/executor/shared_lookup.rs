//! One lookup for several callers that need the same value at the same time.
//!
//! What must stay true: a caller gets the result of a lookup that began after its call, and never an earlier one.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// A lookup that several callers share.
pub struct SharedLookup<T> {
    /// The number of lookups that have begun.
    begun: AtomicU64,
    // Held while somebody looks, so that the others wait for what they find.
    found: Mutex<Option<Found<T>>>,
}

/// The result of the last lookup.
struct Found<T> {
    number: u64,
    value: T,
}

impl<T> Default for SharedLookup<T> {
    fn default() -> Self {
        Self { begun: AtomicU64::new(0), found: Mutex::new(None) }
    }
}

impl<T: Clone> SharedLookup<T> {
    /// The result of a lookup that begins after this call: that of another caller, or `look`.
    pub async fn find(&self, look: impl Future<Output = T>) -> T {
        let begun = self.begun.load(Ordering::SeqCst);
        let mut found = self.found.lock().await;
        if let Some(Found { number, value }) = &*found
            && *number > begun
        {
            return value.clone();
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let value = look.await;
        *found = Some(Found { number, value: value.clone() });
        value
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::future::join_all;
    use tokio::sync::Notify;

    use super::*;

    /// Looks that say their number, each as soon as it may.
    #[derive(Default)]
    struct Looks {
        count: AtomicU64,
        may_end: Notify,
    }

    impl Looks {
        async fn look(&self) -> u64 {
            let number = self.count.fetch_add(1, Ordering::SeqCst) + 1;
            self.may_end.notified().await;
            number
        }
    }

    #[tokio::test]
    async fn all_who_ask_while_a_look_goes_on_share_the_next() {
        let (looks, lookup) = (Arc::new(Looks::default()), Arc::new(SharedLookup::default()));
        let ask = || {
            let (looks, lookup) = (Arc::clone(&looks), Arc::clone(&lookup));
            tokio::spawn(async move { lookup.find(looks.look()).await })
        };
        let first = ask();
        while looks.count.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let others: Vec<_> = (0..10).map(|_| ask()).collect();
        tokio::task::yield_now().await;
        looks.may_end.notify_one();
        assert_eq!(first.await.unwrap(), 1);
        looks.may_end.notify_one();
        for other in join_all(others).await {
            assert_eq!(other.unwrap(), 2, "what was found before it asked");
        }
        assert_eq!(looks.count.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn one_who_asks_later_looks_anew() {
        let (looks, lookup) = (Looks::default(), SharedLookup::default());
        for number in 1..=3 {
            looks.may_end.notify_one();
            assert_eq!(lookup.find(looks.look()).await, number);
        }
    }

    #[tokio::test]
    async fn a_look_that_is_given_up_is_nobodys_answer() {
        let (looks, lookup) = (Looks::default(), SharedLookup::default());
        {
            let given_up = lookup.find(looks.look());
            tokio::select! {
                biased;
                _ = given_up => panic!("nobody let it end"),
                () = tokio::task::yield_now() => {}
            }
        }
        looks.may_end.notify_one();
        assert_eq!(lookup.find(looks.look()).await, 2);
    }
}
