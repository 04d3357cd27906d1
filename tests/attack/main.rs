//! The suite of attacks: for every method of every service and every asset, a valid certificate of the wrong party
//! tries. It is refused with a message, the audit log says so, and nothing else has changed.
//!
//! `cargo test --test attack -- --list` shows them: `PARTY::SERVICE/METHOD`, and `asset::…`. One coordinator with a
//! SQLite store serves them all; hosts are played by the test, so that nothing but loopback is needed.

mod assets;
mod attempt;
mod cluster;
mod host;
mod methods;
mod party;
mod record;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use lockstep_proto::CONTRACT;
use prost::Message;
use prost_types::FileDescriptorSet;

use crate::attempt::{Expected, attempt, expected};
use crate::cluster::Cluster;
use crate::party::Party;

/// The one cluster; what it could not be started for, in words.
type Shared = Arc<OnceLock<Result<Cluster, String>>>;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share a coordinator, and each looks at all that is stored.
    arguments.test_threads = Some(1);
    let shared = Shared::default();
    let mut trials = vec![Trial::test("every_method_of_every_service_has_a_row", || {
        every_method_has_a_row().map_err(|error| Failed::from(format!("{error:#}")))
    })];
    for party in Party::ALL {
        for method in methods::all() {
            if matches!(expected(party, &method), Expected::Rightful) {
                continue;
            }
            let path = method.path.trim_start_matches("/lockstep.v1.");
            let name = format!("{}::{path}", party.name());
            trials.push(trial(name, &shared, move |cluster| attempt(cluster, party, &method)));
        }
    }
    trials.push(trial("a_method_that_is_in_no_table".to_owned(), &shared, attempt::unknown_method));
    for (name, attack) in assets::ALL {
        trials.push(trial(format!("asset::{name}"), &shared, attack));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(
    name: String,
    shared: &Shared,
    attack: impl FnOnce(&Cluster) -> Result<()> + Send + 'static,
) -> Trial {
    let shared = Arc::clone(shared);
    Trial::test(name, move || {
        let cluster = shared.get_or_init(|| Cluster::start().map_err(|error| format!("{error:#}")));
        let cluster = cluster.as_ref().map_err(|error| Failed::from(format!("no cluster: {error}")))?;
        attack(cluster).map_err(|error| Failed::from(format!("{error:#}")))
    })
}

/// Compares the table with the contract as it was compiled.
fn every_method_has_a_row() -> Result<()> {
    let contract = FileDescriptorSet::decode(CONTRACT)?;
    let mut declared = BTreeSet::new();
    for file in &contract.file {
        for service in &file.service {
            for method in &service.method {
                declared.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    let all = methods::all();
    let rows: BTreeSet<String> = all.iter().map(|method| method.path.to_owned()).collect();
    let missing: Vec<&String> = declared.difference(&rows).collect();
    ensure!(missing.is_empty(), "nobody attacks {missing:?}: add them to tests/attack/methods.rs or below");
    let gone: Vec<&String> = rows.difference(&declared).collect();
    ensure!(gone.is_empty(), "{gone:?} are attacked, and no service has them");
    let first = declared.first().context("the contract has no methods")?;
    ensure!(rows.len() == all.len(), "a method is attacked twice, one of {first} and the others");
    Ok(())
}
