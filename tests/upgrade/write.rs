//! Writes `golden/<version>/`, once, with the programs of that version.
//!
//! `documents.jsonl`, `store.txt`, `agent/identity.toml`, `agent/agent.toml` and `coordinator/coordinator.toml` are
//! there before, typed by hand or copied from the version before: they are brought into the form that this program
//! writes. Everything else is made anew. `golden/README.md` has the command.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use age::secrecy::SecretString;
use lockstep_agent::journal::Journal;
use lockstep_coordinator::identity::authority;
use lockstep_coordinator::identity::authority::Authority;
use lockstep_coordinator::identity::tokens;
use lockstep_coordinator::identity::tokens::TokenHolder;
use lockstep_coordinator::ports::clock::SystemClock;
use lockstep_coordinator::program::backup::Backup;
use lockstep_coordinator::record::coordinators::{AgentSessionRecord, Alive};
use lockstep_coordinator::record::vault::{SecretsSource, Vault};
use lockstep_coordinator::store::guarded::{Acquired, Acquisition};
use lockstep_coordinator::store::sqlite::SqliteStore;
use lockstep_coordinator::store::{Store, Write, keys};
use lockstep_core::access::{EnvironmentPattern, Identity, OperatorRole};
use lockstep_core::image::Login;
use lockstep_core::plan::Plan;
use lockstep_core::secret::Secret;
use lockstep_core::stored::{self, StoredDocument};
use lockstep_core::time::Millis;
use lockstep_proto::dial::Credential;

use crate::coordinator::{PASSPHRASE, WRITTEN, cluster};
use crate::{agent, contract, coordinator, credential, documents, golden, store, tables};

/// Cheap to try: what is under this seal is no secret.
const WORK_FACTOR: u8 = 4;

#[tokio::test]
#[ignore = "writes the golden files of the version in LOCKSTEP_GOLDEN, once"]
async fn write_the_golden_files() {
    let version = std::env::var("LOCKSTEP_GOLDEN").expect("LOCKSTEP_GOLDEN is the version's name");
    let at = |file: &str| golden::path(&version, file);
    assert!(!at("contract.txt").exists(), "{version} is there: golden files are written once");

    let lines = documents::lines(&version).into_iter().map(|line| rewritten(&line) + "\n");
    fs::write(at("documents.jsonl"), lines.collect::<String>()).expect("written");
    fs::write(at("actions.txt"), documents::actions_text(&version)).expect("written");
    fs::write(at("contract.txt"), contract::contract_text()).expect("written");
    fs::write(at("frames.txt"), contract::frames_text()).expect("written");
    fs::write(at("converted.txt"), contract::converted_text()).expect("written");

    let authority = Authority::open(&at("coordinator/authority"), &cluster(), WRITTEN).expect("made");
    write_store(&version, &authority).await;
    credential::save(
        &at("credential"),
        issued(&authority, &Identity::Operator("anna".parse().expect("a name"))),
    );
    write_agent(&version, issued(&authority, &Identity::Agent(store::host()))).await;
}

/// In the form that this program writes; text that is no document stays as it is.
fn rewritten(text: &str) -> String {
    let Some(kind) = documents::kind_of(text) else { return text.to_owned() };
    let bytes = (kind.rewrite)(text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"));
    String::from_utf8(bytes).expect("text")
}

fn issued(authority: &Authority, identity: &Identity) -> Credential {
    let (key, request) = authority::request().expect("a key");
    let issued = authority.issue(&request, identity, WRITTEN).expect("a certificate");
    Credential { key: key.serialize_pem(), certificate: issued.certificate, authority: authority.bundle() }
}

async fn write_store(version: &str, authority: &Authority) {
    let at = |file: &str| golden::path(version, file);
    let folder = tempfile::tempdir().expect("a folder");
    let opened = SqliteStore::open(folder.path(), Arc::new(SystemClock)).await.expect("made");
    let store: Arc<dyn Store> = Arc::new(opened);
    let mut entries: Vec<(String, String)> =
        store::entries(version).into_iter().map(|(key, value)| (key, rewritten(&value))).collect();
    entries.retain(|(key, _)| !is_made_anew(key));
    in_parts(&mut entries);
    store::fill(&*store, &entries).await;

    let (roots, _next) = authority.prepare_root(WRITTEN).expect("made");
    store.commit(Vec::new(), vec![Write::put(keys::roots(), &roots)]).await.expect("written");
    let vault = Vault::open(Arc::clone(&store), &at("coordinator/secrets.key")).expect("made");
    seal(&vault).await;
    let admits = TokenHolder::Operator {
        name: "bert".parse().expect("a name"),
        environments: EnvironmentPattern::One(store::environment()),
        role: OperatorRole::Deploy,
    };
    let expires = WRITTEN + Millis::from_secs(900);
    let token = tokens::make(&*store, &authority.pin(), admits, expires).await.expect("made");
    fs::write(at("token.txt"), format!("{}\n", token.expose())).expect("written");
    lease(&*store).await;

    let all = store.list(&keys::all()).await.expect("read");
    fs::write(at("store.txt"), store::written(&all)).expect("written");
    let backup = Backup::take(&*store, &at("coordinator"), &cluster(), WRITTEN).await.expect("taken");
    fs::write(at("backup.age"), sealed(&backup)).expect("written");
    drop((store, vault));
    let file = folder.path().join("store.sqlite");
    tables::in_one_file(&file).await;
    fs::copy(file, at("store.sqlite")).expect("written");
}

/// What has chance in it, or a lease.
fn is_made_anew(key: &str) -> bool {
    let below = |prefix: &str| key.starts_with(&format!("/lockstep/v1/{prefix}/"));
    let is_leased = key.ends_with("/lock") || key.ends_with("/presence");
    is_leased || below("secrets") || below("registry") || below("token") || below("authority")
}

/// A plan that is kept in two parts: the plan that is kept by wave, with its waves.
fn in_parts(entries: &mut [(String, String)]) {
    let value = |entries: &[(String, String)], last: &str| {
        let found = entries.iter().find(|(key, _)| key.ends_with(last)).expect("it is there");
        found.1.clone()
    };
    let deployment = store::deployment(6);
    let read = |last: String| value(entries, &last);
    let mut plan: Plan = stored::decode(read(format!("{deployment}/plan")).as_bytes()).expect("a plan");
    for wave in 0..2 {
        let wave = read(format!("{deployment}/plan/{wave:04}"));
        plan.waves.push(stored::decode(wave.as_bytes()).expect("a wave"));
    }
    let whole = String::from_utf8(stored::encode(&plan)).expect("text");
    let (first, second) = whole.split_at(whole.len() / 2);
    for (key, value) in entries.iter_mut().filter(|(key, _)| key.contains("/part/")) {
        *value = if key.ends_with("0000") { first.to_owned() } else { second.to_owned() };
    }
}

async fn seal(vault: &Vault) {
    let by = || ("anna".parse().expect("a name"), WRITTEN);
    let value = |text: &str| Secret::new(text.to_owned());
    let values = [
        ("DATABASE_URL".to_owned(), value("postgres://notes:pass@10.0.0.1/notes")),
        ("LOG_LEVEL".to_owned(), value("info")),
    ];
    let environment = store::environment();
    vault.import(&environment, values.into(), SecretsSource::File, by()).await.expect("sealed");
    let login = Login {
        registry: "ghcr.io".parse().expect("a registry"),
        username: "robot".to_owned(),
        password: value("registry-pass"),
    };
    vault.log_in(&login, by()).await.expect("sealed");
}

/// What is bound to a lease.
async fn lease(store: &dyn Store) {
    let lease = store.grant(Millis::from_secs(600)).await.expect("given");
    let name = || "coordinator-1".parse().expect("a name");
    let alive = Alive { version: "0.1.0".to_owned(), since: WRITTEN };
    let session = AgentSessionRecord { coordinator: name(), instance: "5f0c".to_owned() };
    let writes = vec![
        Write::put_leased(keys::coordinator_presence(&name()), encoded(&alive), lease),
        Write::put_leased(keys::host_presence(&store::host()), encoded(&session), lease),
    ];
    store.commit(Vec::new(), writes).await.expect("written");
    let acquisition = Acquisition {
        environment: store::environment(),
        coordinator: "coordinator-1".to_owned(),
        nonce: "01JBQR2KXYZ987654321012301".to_owned(),
        lease,
    };
    assert!(matches!(acquisition.attempt(store).await, Ok(Acquired::Held(_))));
}

fn encoded<T: StoredDocument>(content: &T) -> Vec<u8> {
    stored::encode(content)
}

/// As `Backup::seal` does it, but cheap to open.
fn sealed(backup: &Backup) -> Vec<u8> {
    let passphrase = Secret::new(PASSPHRASE.to_owned());
    let text = coordinator::unsealed(&backup.seal(&passphrase).expect("sealed"));
    let mut recipient = age::scrypt::Recipient::new(SecretString::from(PASSPHRASE.to_owned()));
    recipient.set_work_factor(WORK_FACTOR);
    age::encrypt(&recipient, text.as_bytes()).expect("sealed")
}

async fn write_agent(version: &str, credential: Credential) {
    let at = |file: &str| golden::path(version, &format!("agent/{file}"));
    let Credential { key, certificate, authority } = credential;
    for (file, text) in [("key.pem", key), ("certificate.pem", certificate), ("authority.pem", authority)] {
        fs::write(at(file), text).expect("written");
    }
    agent::write_steps(&at("steps"));
    write_traffic(version);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("journal.sqlite");
    let journal = Journal::open(&file).await.expect("made");
    agent::fill_journal(&journal, version).await;
    journal.close().await.expect("closed");
    tables::in_one_file(&file).await;
    fs::copy(file, at("journal.sqlite")).expect("written");
}

/// What the agent keeps of nginx's site. `site.previous` is written only while nginx runs, so it is typed here.
fn write_traffic(version: &str) {
    let at = |file: &str| golden::path(version, file);
    fs::write(at("sites.conf"), agent::site_texts(version)).expect("written");
    let [before, installed] = &agent::sites(version)[..] else { panic!("there are two") };
    let folder = at("agent/traffic/notes-production");
    make(&folder);
    make(&at("agent/sites"));
    let text = agent::site_text(installed);
    fs::write(at("agent/sites/lockstep-notes-production.conf"), &text).expect("written");
    fs::write(folder.join("site.installed"), &text).expect("written");
    fs::write(folder.join("green"), "").expect("written");
    fs::write(at("agent/traffic/probe.secret"), agent::PROBE_SECRET).expect("written");
    let quoted = serde_json::to_string(&agent::site_text(before)).expect("text");
    let deployment = store::deployment(5);
    let previous = format!(r#"{{"deployment":"{deployment}","file":{quoted},"installed":{quoted}}}"#);
    fs::write(folder.join("site.previous"), previous).expect("written");
}

fn make(folder: &Path) {
    fs::create_dir_all(folder).expect("made");
}
