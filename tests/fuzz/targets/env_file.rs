//! `.env` files.
#![no_main]

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use lockstep::env_file::{self, EnvFileError};
use lockstep_core::secret::Secret;
use lockstep_fuzz::{folder, write_private};
use tempfile::TempDir;

/// It is no part of a name: where a message has it, the message shows a value.
const CANARY: &str = "c@nary";

thread_local! {
    static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
}

fuzz_target!(|text: &str| {
    FOLDER.with(|kept| {
        let path = kept.get_or_init(folder).path().join(".env.production");
        match read(&path, text) {
            Ok(values) => {
                for line_break in ["\\n", "\n"] {
                    let again = read(&path, &written(&values, line_break));
                    assert_eq!(again.expect("what was read can be read again"), values);
                }
            }
            Err(error) => assert!(!error.to_string().contains(CANARY), "{error}"),
        }
    });
});

fn read(path: &Path, text: &str) -> Result<BTreeMap<String, Secret>, EnvFileError> {
    write_private(path, text.as_bytes());
    Ok(env_file::read(path)?.expect("the file is there"))
}

/// Every value in double quotes. A line break may be there as it is, but for one of two characters.
fn written(values: &BTreeMap<String, Secret>, line_break: &str) -> String {
    let mut text = String::new();
    for (name, value) in values {
        let value = value.expose().replace('\\', "\\\\").replace('"', "\\\"");
        let value =
            if value.contains('\r') { value.replace('\n', "\\n") } else { value.replace('\n', line_break) };
        text.push_str(&format!("{name}=\"{value}\"\n"));
    }
    text
}
