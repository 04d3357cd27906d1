//! Points at which a process can be made to die, as by `kill -9`, or to stand still, as by `kill -STOP`, so that
//! tests can enumerate every moment between two writes. The list of points is yielded by the code itself: with
//! `LOCKSTEP_CRASH_LIST=<file>` each point that is reached is appended to the file. With
//! `LOCKSTEP_CRASH_ORDER=<file>` whoever first reaches the point in the file's first line removes the file and does
//! what its second line says: `die` or `stand still`. In a release build [`reach`] is empty.

/// A point is reached. `name` is only made in debug builds with one of the two variables set.
#[cfg(debug_assertions)]
pub fn reach(name: impl FnOnce() -> String) {
    let list = std::env::var_os("LOCKSTEP_CRASH_LIST");
    let order = std::env::var_os("LOCKSTEP_CRASH_ORDER");
    if list.is_none() && order.is_none() {
        return;
    }
    let name = name();
    if let Some(list) = list {
        append(list.as_ref(), &name);
    }
    if let Some(order) = order {
        obey(order.as_ref(), &name);
    }
}

#[cfg(debug_assertions)]
fn append(list: &std::path::Path, name: &str) {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(list)
        .expect("the test that sets LOCKSTEP_CRASH_LIST can write there");
    writeln!(file, "{name}").expect("the test that sets LOCKSTEP_CRASH_LIST can write there");
}

#[cfg(debug_assertions)]
fn obey(order: &std::path::Path, name: &str) {
    use rustix::process::{Signal, getpid, kill_process};
    // There is none for most of the time.
    let Ok(text) = std::fs::read_to_string(order) else { return };
    let mut lines = text.lines();
    if lines.next() != Some(name) || std::fs::remove_file(order).is_err() {
        // Another point, or another process was here first.
        return;
    }
    match lines.next() {
        Some("stand still") => {
            kill_process(getpid(), Signal::STOP).expect("a process may stop itself");
        }
        Some(_) | None => {
            kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
            loop {
                std::thread::park();
            }
        }
    }
}

/// A point is reached: nothing happens in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reach(_: impl FnOnce() -> String) {}
