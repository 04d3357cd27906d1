//! Time as a value: milliseconds since 1970 in UTC. Nothing here can read a clock.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::ops::Add;

use serde::{Deserialize, Serialize};
use time::UtcDateTime;

/// A moment, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

/// A length of time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1000)
    }

    /// Reads `500ms`, `30s`, `10m`, `2h` or `7d`.
    ///
    /// # Errors
    /// When the text is not a whole number with one of these units.
    pub fn parse(text: &str) -> Result<Self, InvalidDuration> {
        let invalid = || InvalidDuration { text: text.to_owned() };
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let count: u64 = text[..digits].parse().map_err(|_| invalid())?;
        let unit = match &text[digits..] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(invalid()),
        };
        count.checked_mul(unit).map(Self).ok_or_else(invalid)
    }
}

/// Why a text is not a length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration: write a whole number with ms, s, m, h or d, as in 30s")]
pub struct InvalidDuration {
    pub text: String,
}

impl fmt::Display for Millis {
    /// As people say it: `420 ms`, `3.4 s`, `12 min`, `2 h 5 min`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0;
        let text = match ms {
            0..1_000 => format!("{ms} ms"),
            1_000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
            60_000..3_600_000 if ms % 60_000 < 1000 => format!("{} min", ms / 60_000),
            60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
            3_600_000.. => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
        };
        f.pad(&text)
    }
}

impl Timestamp {
    /// How long it is from `earlier` to here; zero when `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }

    /// By the calendar, in UTC; the last second of the year 9999 for what is later.
    fn date_time(self) -> UtcDateTime {
        let seconds = i64::try_from(self.0 / 1000).unwrap_or(i64::MAX);
        UtcDateTime::from_unix_timestamp(seconds).unwrap_or(UtcDateTime::MAX)
    }
}

impl Add<Millis> for Timestamp {
    type Output = Timestamp;
    fn add(self, length: Millis) -> Timestamp {
        Timestamp(self.0.saturating_add(length.0))
    }
}

impl fmt::Display for Timestamp {
    /// ISO 8601 with seconds and `Z`, as the seed's state file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.date_time();
        let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
        let (hour, minute, second) = at.as_hms();
        f.pad(&format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_moment_is_written_as_iso_8601() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp(951_782_400_000).to_string(), "2000-02-29T00:00:00Z");
        assert_eq!(Timestamp(1_769_596_200_999).to_string(), "2026-01-28T10:30:00Z");
    }

    #[test]
    fn the_last_moment_of_the_calendar_is_written_as_it_is() {
        assert_eq!(Timestamp(253_402_300_799_999).to_string(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn a_moment_after_the_calendar_is_written_as_its_last() {
        assert_eq!(Timestamp(u64::MAX).to_string(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn lengths_are_read_and_said() {
        assert_eq!(Millis::parse("30m"), Ok(Millis(1_800_000)));
        for bad in ["", "30", "m", "3 s", "1.5s", "99999999999999999999s", "18446744073709551615d"] {
            assert!(Millis::parse(bad).is_err(), "{bad}");
        }
        for (ms, said) in [(420, "420 ms"), (3_440, "3.4 s"), (720_000, "12 min"), (7_500_000, "2 h 5 min")] {
            assert_eq!(Millis(ms).to_string(), said);
        }
    }
}
