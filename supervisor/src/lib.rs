//! What a service tells systemd about itself: that it is ready, that it goes on, that it ends.
//!
//! What must stay true: the watchdog is fed by the turns of the loop that does the work and by nothing else, so
//! that a service whose loop stands still is started anew. Where no systemd asks, nothing is said.

pub mod units;

use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::warn;

/// How many times within the limit the watchdog is fed.
const FEEDINGS: u32 = 4;

/// Says that what others wait for is there.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// Says that it ends because it was told to.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// The watchdog, in the hands of the loop that feeds it.
#[derive(Debug, Default)]
pub struct Watchdog {
    /// Nothing: nobody watches.
    every: Option<Duration>,
    fed: Option<Instant>,
}

impl Watchdog {
    /// As systemd has asked for it.
    #[must_use]
    pub fn asked_for() -> Self {
        Self { every: sd_notify::watchdog_enabled().map(|limit| limit / FEEDINGS), fed: None }
    }

    /// The loop has gone round once.
    pub fn turned(&mut self) {
        let Some(every) = self.every else { return };
        if self.is_due(Instant::now(), every) {
            tell(NotifyState::Watchdog);
        }
    }

    fn is_due(&mut self, now: Instant, every: Duration) -> bool {
        let is_due = self.fed.is_none_or(|fed| now.duration_since(fed) >= every);
        if is_due {
            self.fed = Some(now);
        }
        is_due
    }
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "cannot notify systemd of the state of this service");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fed_by_a_turn_and_not_by_every_turn() {
        let (mut watchdog, every) = (Watchdog::default(), Duration::from_secs(15));
        let begun = Instant::now();
        let fed: Vec<bool> = [0, 1, 14, 15, 16, 200]
            .map(|second| watchdog.is_due(begun + Duration::from_secs(second), every))
            .into();
        assert_eq!(fed, [true, false, false, true, false, true]);
    }
}
