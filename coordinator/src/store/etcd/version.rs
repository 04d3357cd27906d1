//! The versions of etcd that may keep the record.

/// What is thought of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judgement {
    Good,
    /// It is used, and an operator should know.
    Doubtful(&'static str),
    /// It is not used.
    Refused(&'static str),
}

/// Numbers, as in `3.4.23`; what follows them (`-rc.1`, `+git`) does not matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32, u32);

/// Members on these versions can end up with different data after a crash (etcd issue 13766).
const LOSES_DATA: (Version, Version) = (Version(3, 5, 0), Version(3, 5, 2));

/// The oldest that this adapter was tried on.
const OLDEST: Version = Version(3, 4, 0);

/// Newer ones are not known.
const NEWEST: (u32, u32) = (3, 7);

pub(super) fn judge(text: &str) -> Judgement {
    let Some(version) = parse(text) else {
        return Judgement::Doubtful("its version cannot be parsed");
    };
    if (LOSES_DATA.0..=LOSES_DATA.1).contains(&version) {
        return Judgement::Refused(
            "3.5.0 to 3.5.2 can lose data when a member is killed: upgrade it to 3.5.28 or newer",
        );
    }
    if version < OLDEST {
        return Judgement::Doubtful("it is older than 3.4, which is not tested");
    }
    if (version.0, version.1) > NEWEST {
        return Judgement::Doubtful("it is newer than 3.7, which is not tested");
    }
    Judgement::Good
}

fn parse(text: &str) -> Option<Version> {
    let numbers = text.split(['-', '+']).next()?;
    let mut numbers = numbers.split('.').map(|number| number.parse().ok());
    let version = Version(numbers.next()??, numbers.next()??, numbers.next()??);
    numbers.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_loses_data_is_refused_and_what_is_unknown_is_doubted() {
        for (text, good) in [
            ("3.4.0", true),
            ("3.4.23", true),
            ("3.5.3", true),
            ("3.6.9-rc.1", true),
            ("3.7.2", true),
            ("3.3.27", false),
            ("3.8.0", false),
            ("4.0.0", false),
            ("", false),
            ("3.5", false),
            ("3.5.1.7", false),
        ] {
            let judged = judge(text);
            assert_eq!(judged == Judgement::Good, good, "{text}: {judged:?}");
            assert!(!matches!(judged, Judgement::Refused(_)), "{text}: {judged:?}");
        }
        for text in ["3.5.0", "3.5.1", "3.5.2", "3.5.2+git", "3.5.0-alpha.0"] {
            assert!(matches!(judge(text), Judgement::Refused(_)), "{text}: {:?}", judge(text));
        }
    }
}
