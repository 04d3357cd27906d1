//! nginx's access log, in which clients write. The first part of an input was there at the first count of a deployment.
#![no_main]

use std::cell::OnceCell;
use std::fs;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use lockstep_agent::nginx::fuzzing::count_requests;
use lockstep_core::run::journal::TrafficCount;
use lockstep_fuzz::{folder, parts};
use tempfile::TempDir;

thread_local! {
    static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
}

fuzz_target!(|text: &str| {
    FOLDER.with(|kept| {
        let folder = kept.get_or_init(folder).path();
        let [before, one, two] = parts(text);
        let in_two = counted(folder, before, &[one, two]);
        let at_once = counted(folder, before, &[&format!("{one}{two}")]);
        assert_eq!(in_two, at_once, "it depends on when it is counted");
        assert!(in_two.lost <= in_two.requests);
        let breaks = one.matches('\n').count() + two.matches('\n').count();
        assert_eq!(usize::try_from(in_two.requests), Ok(breaks));
    });
});

/// The last count of a deployment that counts after each of `added`.
fn counted(folder: &Path, before: &str, added: &[&str]) -> TrafficCount {
    let (log, progress) = (folder.join("access.log"), folder.join("requests.json"));
    fs::remove_file(&progress).ok();
    let deployment = "dep_01JBQR2KXYZ987654321012345".parse().expect("an id");
    let count = || {
        let counted = count_requests(&log, &progress, &deployment).expect("files of a temporary folder");
        counted.expect("no line is gone")
    };
    let mut text = before.to_owned();
    fs::write(&log, &text).expect("a file of a temporary folder");
    assert_eq!(count(), TrafficCount { requests: 0, lost: 0 });
    for added in added {
        text.push_str(added);
        fs::write(&log, &text).expect("a file of a temporary folder");
        count();
    }
    count()
}
