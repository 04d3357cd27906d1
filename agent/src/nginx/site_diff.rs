//! The changes that somebody made to a site by hand, as they may be shown: without the secret of the probe header.

use lockstep_core::id::Digest;
use lockstep_core::record::observed::SiteChange;
use lockstep_core::secret::redact::MASK;
use similar::{ChangeTag, TextDiff};

use super::site;

/// More is not read, and it has to fit into a message.
const DIFF_BYTES_MAX: usize = 16 * 1024;

/// From what was installed, if anything was, to what is there.
pub(super) fn change(installed: Option<&str>, there: &str, secret: Option<&str>) -> SiteChange {
    let shown = |text: &str| match secret {
        Some(secret) => text.replace(secret, MASK),
        None => text.to_owned(),
    };
    let (before, after) = (shown(installed.unwrap_or_default()), shown(there));
    let diff = TextDiff::from_lines(&before, &after);
    let count = |tag| {
        let lines = diff.iter_all_changes().filter(|change| change.tag() == tag).count();
        u32::try_from(lines).unwrap_or(u32::MAX)
    };
    let text = diff.unified_diff().header("as installed", "as it is").to_string();
    SiteChange {
        installed: installed.and_then(site::digest_of),
        there: Digest::of_content(there.as_bytes()),
        added: count(ChangeTag::Insert),
        removed: count(ChangeTag::Delete),
        diff: cut(text),
    }
}

fn cut(text: String) -> String {
    if text.len() <= DIFF_BYTES_MAX {
        return text;
    }
    let end = text[..text.floor_char_boundary(DIFF_BYTES_MAX)].rfind('\n').map_or(0, |newline| newline + 1);
    format!("{}... {} more lines\n", &text[..end], text[end..].lines().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_without_the_secret() {
        let before = "a\nlocation = /status-abc {\nb\n";
        let change = change(Some(before), "a\nlocation = /status-abc { # of mine\nb\nc\n", Some("abc"));
        assert_eq!((change.added, change.removed, change.installed), (2, 1, None));
        assert_eq!(
            change.diff,
            "--- as installed\n+++ as it is\n@@ -1,3 +1,4 @@\n a\n-location = /status-*** {\n\
             +location = /status-*** { # of mine\n b\n+c\n"
        );
    }

    #[test]
    fn where_nothing_was_installed_all_of_it_is_new_and_much_of_it_is_cut() {
        let there = "x\n".repeat(20_000);
        let change = change(None, &there, None);
        assert_eq!((change.added, change.removed), (20_000, 0));
        assert!(change.diff.len() < DIFF_BYTES_MAX + 100);
        assert!(change.diff.ends_with(" more lines\n"), "{}", &change.diff[change.diff.len() - 100..]);
    }
}
