//! Asks a host for its vitals again and again, and measures the round trip.
//!
//! What must stay true: an answer is matched to its question, so a late answer does not make a clock look wrong.

use std::time::Duration;

use lockstep_core::time::{Millis, Timestamp};
use lockstep_core::view::host_status::{ClockOffset, Disk, Validity, Vitals};
use lockstep_proto::wire;
use tokio::time::Instant;

use crate::identity::certificate::BACKDATED;

/// How often an agent is asked.
pub(super) const ASKED_EVERY: Duration = Duration::from_secs(10);

/// The question that is open.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    request: u64,
    asked: Option<Instant>,
}

impl Pulse {
    /// The next question, sent at `now`; what was not answered before never will be.
    pub(super) fn ask(&mut self, now: Instant) -> wire::AskVitals {
        self.request += 1;
        self.asked = Some(now);
        wire::AskVitals { request: self.request }
    }

    /// What the answer says that came at `now`, which is `clock` by this coordinator's clock; `None` if it is
    /// not of the open question.
    pub(super) fn answered(
        &mut self,
        said: wire::Vitals,
        (now, clock): (Instant, Timestamp),
    ) -> Option<Vitals> {
        let wire::Vitals {
            request,
            clock_ms,
            disk_free_bytes,
            disk_size_bytes,
            certificate_from_ms,
            certificate_until_ms,
        } = said;
        if request != self.request {
            return None;
        }
        let took = now.saturating_duration_since(self.asked.take()?);
        let round_trip = Millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        let disk = Disk { free_bytes: disk_free_bytes, size_bytes: disk_size_bytes };
        // It begins before it was made, for clocks that are behind.
        let issued = Timestamp(certificate_from_ms) + BACKDATED;
        let certificate = Validity { issued, ends: Timestamp(certificate_until_ms) };
        Some(Vitals {
            heard_at: clock,
            clock: ClockOffset::measured(Timestamp(clock_ms), clock, round_trip),
            disk: (disk_size_bytes > 0).then_some(disk),
            certificate: (certificate_until_ms > 0).then_some(certificate),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp(1_800_000_000_000);

    fn says(request: u64, clock: Timestamp) -> wire::Vitals {
        wire::Vitals { request, clock_ms: clock.0, ..wire::Vitals::default() }
    }

    #[test]
    fn an_answer_is_of_its_question() {
        let mut pulse = Pulse::default();
        let sent = Instant::now();
        let late = pulse.ask(sent).request;
        let open = pulse.ask(sent + ASKED_EVERY).request;
        let came = (sent + ASKED_EVERY + Duration::from_millis(40), NOON);
        assert_eq!(pulse.answered(says(late, NOON), came), None);
        let heard = pulse.answered(says(open, Timestamp(NOON.0 - 20)), came).unwrap();
        assert_eq!((heard.clock.ahead_ms, heard.clock.within), (0, Millis(20)));
        assert_eq!((heard.disk, heard.certificate), (None, None));
        assert_eq!(pulse.answered(says(open, NOON), came), None);
    }

    #[test]
    fn a_certificate_is_as_old_as_it_is_and_not_as_it_says() {
        let mut pulse = Pulse::default();
        let request = pulse.ask(Instant::now()).request;
        let said = wire::Vitals {
            certificate_from_ms: NOON.0 - BACKDATED.0,
            certificate_until_ms: NOON.0 + 1000,
            disk_size_bytes: 100,
            disk_free_bytes: 40,
            ..says(request, NOON)
        };
        let heard = pulse.answered(said, (Instant::now(), NOON)).unwrap();
        let ends = Timestamp(NOON.0 + 1000);
        assert_eq!(heard.certificate, Some(Validity { issued: NOON, ends }));
        assert_eq!(heard.disk, Some(Disk { free_bytes: 40, size_bytes: 100 }));
    }
}
