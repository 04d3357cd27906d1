//! Points at which a process can be made to die, as by `kill -9`, so that tests can enumerate every
//! moment between two writes. The list of points is yielded by the code itself: with
//! `LOCKSTEP_CRASH_LIST=<file>` each point that is reached is appended to the file; with
//! `LOCKSTEP_CRASH_AT=<point>` the process kills itself there. In a release build [`reach`] is empty.

/// A point is reached. `name` is only made in debug builds with one of the two variables set.
#[cfg(debug_assertions)]
pub fn reach(name: impl FnOnce() -> String) {
    use std::io::Write;

    let list = std::env::var_os("LOCKSTEP_CRASH_LIST");
    let at = std::env::var("LOCKSTEP_CRASH_AT").ok();
    if list.is_none() && at.is_none() {
        return;
    }
    let name = name();
    if let Some(list) = list {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(list)
            .expect("the test that sets LOCKSTEP_CRASH_LIST can write there");
        writeln!(file, "{name}").expect("the test that sets LOCKSTEP_CRASH_LIST can write there");
    }
    if at.as_deref() == Some(name.as_str()) {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
            .expect("a process may kill itself");
        loop {
            std::thread::park();
        }
    }
}

/// A point is reached: nothing happens in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reach(_: impl FnOnce() -> String) {}
