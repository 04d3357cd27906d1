//! Notifies systemd of the state of a service: ready, alive, stopping.
//!
//! What must stay true: only the loop that does the work feeds the watchdog, so that systemd restarts a service whose
//! loop hangs. Without a supervisor that asks for it, nothing is sent.

pub mod units;

use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::warn;

/// How often the watchdog is fed within its limit.
const FEEDINGS: u32 = 4;

/// Notifies systemd that the service is ready.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// Notifies systemd that the service stops as requested.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// The watchdog. The loop that does the work owns it.
#[derive(Debug, Default)]
pub struct Watchdog {
    /// `None` if systemd does not watch this service.
    every: Option<Duration>,
    fed: Option<Instant>,
}

impl Watchdog {
    /// The watchdog that systemd has configured for this process.
    #[must_use]
    pub fn asked_for() -> Self {
        Self { every: sd_notify::watchdog_enabled().map(|limit| limit / FEEDINGS), fed: None }
    }

    /// Feeds the watchdog if it is due. The loop calls this after each turn.
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
