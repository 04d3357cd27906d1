//! The table of who may call what has every method of every service, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use lockstep_core::access::METHODS;

#[test]
fn every_method_of_every_service_has_its_callers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("lockstep/v1");
    let mut declared = BTreeSet::new();
    for entry in fs::read_dir(&folder).expect("the folder of the .proto files") {
        let text = fs::read_to_string(entry.expect("a file").path()).expect("a .proto file is text");
        let mut service = String::new();
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("service ") {
                service = rest.trim_end_matches(['{', ' ']).to_owned();
            } else if let Some((method, _)) = line.strip_prefix("rpc ").and_then(|rest| rest.split_once('('))
            {
                declared.insert(format!("/lockstep.v1.{service}/{method}"));
            }
        }
    }
    assert!(declared.len() > 30, "only {declared:?} were found");
    let allowed: BTreeSet<String> = METHODS.iter().map(|(method, _)| (*method).to_owned()).collect();
    assert_eq!(allowed, declared);
    assert_eq!(allowed.len(), METHODS.len(), "a method stands in the table twice");
}
