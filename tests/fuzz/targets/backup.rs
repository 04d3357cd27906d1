//! The lines of a backup, as they are inside of its encryption.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_coordinator::program::backup::fuzzing::{read, write};

fuzz_target!(|lines: &[u8]| {
    match read(lines) {
        Ok(backup) => {
            let written = write(&backup).expect("memory takes everything");
            let again = read(&written).expect("what was written can be read");
            assert_eq!((&again.files, &again.entries), (&backup.files, &backup.entries));
        }
        // What stands in a backup may be a key.
        Err(error) => assert!(!error.to_string().contains("c@nary"), "{error}"),
    }
});
