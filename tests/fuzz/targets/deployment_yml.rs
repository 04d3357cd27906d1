//! `deployment.yml`.
#![no_main]

use std::cell::OnceCell;
use std::fs;

use libfuzzer_sys::fuzz_target;
use lockstep::deployment_yml::{DeclarationError, Project};
use lockstep_core::spec::EnvironmentSpec;
use lockstep_core::spec::check::{check, check_declared};
use lockstep_core::stored;
use lockstep_fuzz::folder;
use tempfile::TempDir;

thread_local! {
    static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
}

fuzz_target!(|text: &str| {
    FOLDER.with(|kept| {
        let folder = kept.get_or_init(folder).path();
        fs::write(folder.join("deployment.yml"), text).expect("a file of a temporary folder");
        match Project::find(folder) {
            Ok(project) => every_environment(&project),
            Err(DeclarationError::Parse { diagnostic, .. }) => assert!(!diagnostic.is_empty()),
            Err(error) => panic!("{error}"),
        }
    });
});

fn every_environment(project: &Project) {
    for name in project.environments() {
        match project.environment(name.as_str()) {
            Ok(declared) => accepted(declared.spec),
            Err(DeclarationError::Problems { problems, .. }) => {
                assert!(!problems.is_empty(), "{name} is refused without a reason");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// The coordinator reads what the command line sends, and judges it as the command line did.
fn accepted(spec: EnvironmentSpec) {
    let sent = stored::encode(&spec);
    let read: EnvironmentSpec = stored::decode(&sent).expect("what was encoded can be decoded");
    assert_eq!(read, spec);
    assert!(check_declared(read).is_ok());
    // What else it needs, it has from the images and hosts of a release.
    check(spec).ok();
}
