//! What an agent keeps on its host: `agent/` is its directory, with the journal in it, and `agent/sites` what nginx
//! includes.

use std::fs;
use std::path::Path;

use lockstep_agent::journal::assignment::Assignment;
use lockstep_agent::journal::object_names::ObjectNames;
use lockstep_agent::journal::step_log::StepLogs;
use lockstep_agent::journal::{
    Acceptance, BeginOutcome, GivenTraffic, IdleReason, Journal, JournaledStatus, Refusal,
};
use lockstep_agent::nginx::site::{self, Address, SitePaths};
use lockstep_agent::nginx::sizes::Sizes;
use lockstep_agent::nginx::{InstalledSite, Nginx};
use lockstep_agent::program::directory::Directory;
use lockstep_agent::program::enroll;
use lockstep_agent::program::identity::Identity;
use lockstep_agent::program::settings::{NginxSettings, Settings};
use lockstep_coordinator::identity::certificate;
use lockstep_core::agent::fence::Token;
use lockstep_core::id::StepId;
use lockstep_core::plan::Action;
use lockstep_core::plan::action::Site;
use lockstep_core::record::local_rollback::LocalRollback;
use lockstep_core::run::journal::{Direction, Finding, StepFailure, StepKey};
use lockstep_core::slot::Slot;
use lockstep_core::time::{Millis, Timestamp};

use crate::golden::{self, ADVICE, VERSIONS};
use crate::{coordinator, documents, store, tables};

/// In `agent/`.
const JOURNAL: &str = "journal.sqlite";

pub(crate) const PROBE_SECRET: &str = "00112233445566778899aabb";

fn token(epoch: u64, seq: u64) -> Token {
    Token { cluster: coordinator::cluster(), epoch, seq }
}

fn key(step: u16, direction: Direction) -> StepKey {
    StepKey { deployment: store::deployment(5), step: StepId(step), direction }
}

/// The first action of this kind among the golden documents.
fn action(version: &str, name: &str) -> Action {
    documents::of::<Action>(version).into_iter().find(|action| action.name() == name).expect("it is there")
}

fn assignment(version: &str, key: StepKey, token: Token) -> Assignment {
    // What each step of the journal does.
    let name = match (key.step.0, key.direction) {
        (1, _) => Some("start"),
        (2, Direction::Do) => Some("switch"),
        (3, _) => Some("health"),
        (4, _) => Some("migrate"),
        (5, _) => Some("workers"),
        (2, Direction::Undo) => Some("stop"),
        (_, _) => None,
    };
    Assignment {
        token,
        key,
        environment: store::environment(),
        action: name.map(|name| action(version, name)),
        limit: Millis::from_secs(60),
        traceparent: String::new(),
    }
}

fn one<T: lockstep_core::stored::StoredDocument>(version: &str) -> T {
    documents::of::<T>(version).swap_remove(0)
}

/// Everything that a journal can have in it, out of the golden documents of `version`.
pub(crate) async fn fill_journal(journal: &Journal, version: &str) {
    let accept = async |key: StepKey, seq: u64| {
        let accepted = journal.accept(&assignment(version, key, token(7, seq))).await.expect("written");
        assert_eq!(accepted, Acceptance::Begin);
    };
    let begin = async |step: u16| journal.begin(&key(step, Direction::Do)).await.expect("written");
    accept(key(4, Direction::Do), 1).await;
    begin(4).await;
    journal.interrupt().await.expect("written");
    accept(key(1, Direction::Do), 2).await;
    begin(1).await;
    let finding: Finding = one(version);
    journal.finish(&key(1, Direction::Do), Ok(finding)).await.expect("written");
    journal.settle(&key(1, Direction::Do), &token(7, 2)).await.expect("written");
    accept(key(2, Direction::Do), 3).await;
    begin(2).await;
    let failure: StepFailure = one(version);
    journal.finish(&key(2, Direction::Do), Err(failure)).await.expect("written");
    accept(key(2, Direction::Undo), 4).await;
    accept(key(3, Direction::Do), 5).await;
    accept(key(6, Direction::Undo), 6).await;
    journal.record_traffic(&one::<GivenTraffic>(version)).await.expect("written");
    let rollback: LocalRollback = one(version);
    for _ in 1..=3 {
        journal.begin_local(rollback.clone()).await.expect("written").expect("no step moves traffic");
    }
    journal.end_local(1).await.expect("written");
    journal.mark_adopted(1).await.expect("written");
    journal.end_local(2).await.expect("written");
    accept(key(5, Direction::Do), 7).await;
    assert!(matches!(begin(5).await, BeginOutcome::Held(held) if held.seq == 3));
    let staging = "notes/staging".parse().expect("a key");
    journal.query_statuses(&token(8, 1), &staging, &[]).await.expect("written").expect("it is newer");
}

async fn open(version: &str) -> (tempfile::TempDir, Journal) {
    let folder = golden::copy(version, "agent");
    let journal = Journal::open(&folder.path().join(JOURNAL)).await.expect("it is opened");
    (folder, journal)
}

#[tokio::test]
async fn a_journal_is_written_with_the_rows_that_it_had() {
    let version = golden::newest();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(JOURNAL);
    let journal = Journal::open(&path).await.expect("it is made");
    fill_journal(&journal, version).await;
    journal.close().await.expect("closed");
    let golden = golden::copy(version, "agent");
    let golden = golden.path().join(JOURNAL);
    assert_eq!(tables::schema(&path).await, tables::schema(&golden).await, "{ADVICE}");
    assert_eq!(tables::rows(&path).await, tables::rows(&golden).await, "{ADVICE}");
}

#[tokio::test]
async fn an_earlier_journal_says_where_each_step_stands() {
    for version in VERSIONS {
        let (_folder, journal) = open(version).await;
        let unsettled = journal.unsettled().await.expect("read");
        let unsettled: Vec<_> =
            unsettled.into_iter().map(|ended| (ended.key, ended.token, ended.outcome)).collect();
        assert_eq!(unsettled, [(key(2, Direction::Do), token(7, 3), Err(one::<StepFailure>(version)))]);
        let interrupted = journal.interrupt().await.expect("written");
        assert_eq!(interrupted, [(key(5, Direction::Do), store::environment())]);
        let keys =
            [key(1, Direction::Do), key(3, Direction::Do), key(4, Direction::Do), key(9, Direction::Do)];
        let standings =
            journal.query_statuses(&token(9, 1), &store::environment(), &keys).await.expect("read");
        let standings = standings.expect("it is newer").into_iter().map(|(_, standing)| standing);
        let wanted = [
            JournaledStatus::Ended(Ok(one::<Finding>(version))),
            JournaledStatus::Idle(IdleReason::Accepted),
            JournaledStatus::Idle(IdleReason::Interrupted),
            JournaledStatus::Idle(IdleReason::NeverAccepted),
        ];
        assert_eq!(standings.collect::<Vec<_>>(), wanted);
    }
}

/// The digest of an assignment, the mark and the tombstone are what an agent decides by.
#[tokio::test]
async fn an_earlier_journal_knows_work_again_and_refuses_what_it_refused() {
    for version in VERSIONS {
        let (_folder, journal) = open(version).await;
        let offer = async |step, token| {
            let offered = assignment(version, key(step, Direction::Do), token);
            journal.accept(&offered).await.expect("read")
        };
        let stale = offer(1, token(6, 99)).await;
        assert!(matches!(stale, Acceptance::Refused(Refusal::Fence(_))), "{stale:?}");
        assert_eq!(offer(1, token(8, 1)).await, Acceptance::Ended(Ok(one::<Finding>(version))));
        let undone = offer(2, token(8, 2)).await;
        assert_eq!(undone, Acceptance::Refused(Refusal::Undone { key: key(2, Direction::Do) }));
        let mut other = assignment(version, key(3, Direction::Do), token(8, 3));
        other.action = Some(Action::RemoveSite);
        let refused = journal.accept(&other).await.expect("read");
        assert_eq!(refused, Acceptance::Refused(Refusal::DifferentAction { key: key(3, Direction::Do) }));
    }
}

#[tokio::test]
async fn an_earlier_journal_knows_what_was_done_without_a_coordinator() {
    for version in VERSIONS {
        let (_folder, journal) = open(version).await;
        assert_eq!(journal.traffic_records().await.expect("read"), [one::<GivenTraffic>(version)]);
        let numbered = |seq| LocalRollback { seq, ..one::<LocalRollback>(version) };
        assert_eq!(journal.local_done().await.expect("read"), [numbered(2)]);
        assert_eq!(journal.local_begun().await.expect("read"), [numbered(3)]);
        let newest = journal.newest_deployment(&store::environment()).await.expect("read");
        assert_eq!(newest, Some(store::deployment(5)));
    }
}

#[test]
fn an_agent_knows_who_it_is_and_writes_it_as_it_was() {
    for version in VERSIONS {
        let folder = golden::copy(version, "agent");
        let directory = Directory::open(folder.path()).expect("it is opened");
        let identity = Identity::read(&directory).expect("it has joined");
        assert_eq!((identity.name.as_str(), identity.host.clone()), ("app-1", store::host()));
        assert_eq!(identity.coordinators, ["10.0.0.1:7443", "10.0.0.2:7443"]);
        let credential = enroll::credential(&directory).expect("it is there");
        let leaf = coordinator::leaf(&credential.certificate);
        let named = certificate::identity_of(&leaf, &coordinator::cluster()).to_string();
        assert!(named.contains(store::host().as_str()), "{named}");
        identity.write(&directory).expect("it is written");
        let written = fs::read_to_string(directory.identity()).expect("it is there");
        assert_eq!(written, golden::text(version, "agent/identity.toml"), "{ADVICE}");
    }
}

#[test]
fn every_setting_of_an_agent_is_read() {
    for version in VERSIONS {
        let settings = Settings::read(&golden::path(version, "agent/agent.toml")).expect("it is read");
        let nginx = NginxSettings {
            binary: "/opt/nginx/sbin/nginx".into(),
            configuration: "/opt/nginx/nginx.conf".into(),
            sites: "/opt/nginx/sites".into(),
            logs: "/var/log/nginx".into(),
        };
        assert_eq!(settings.nginx, nginx);
        assert_eq!(settings.docker.socket, Path::new("/run/docker.sock"));
        assert_eq!(settings.postgres.binaries.as_deref(), Some(Path::new("/opt/postgresql/bin")));
        assert_eq!(settings.postgres.sockets.as_deref(), Some(Path::new("/run/postgresql")));
        assert!(settings.otlp.is_some());
    }
}

#[test]
fn what_a_step_printed_is_found() {
    for version in VERSIONS {
        let logs = StepLogs::new(golden::path(version, "agent/steps"));
        let lines = logs.read(&store::deployment(5), StepId(1), 0).expect("read");
        assert_eq!(lines, ["1970-01-01T00:00:00Z done", "1970-01-01T00:00:00Z taken back"]);
    }
}

/// For [`crate::write`].
pub(crate) fn write_steps(folder: &Path) {
    let logs = StepLogs::new(folder.to_owned());
    for (direction, line) in [(Direction::Do, "done"), (Direction::Undo, "taken back")] {
        logs.open(&key(1, direction)).expect("opened").line(Timestamp(0), line).expect("written");
    }
}

/// The sites that are installed: with TLS and several hosts, and without.
pub(crate) fn sites(version: &str) -> Vec<Site> {
    let site = |action| if let Action::InstallSite { site, .. } = action { Some(site) } else { None };
    documents::of::<Action>(version).into_iter().filter_map(site).collect()
}

/// The text of a site, wherever a test's files are.
pub(crate) fn site_text(site: &Site) -> String {
    let traffic = Path::new("/var/lib/lockstep/agent/traffic/notes-production");
    let places = SitePaths {
        switch: &traffic.join("green"),
        access_log: Path::new("/var/log/nginx/lockstep-notes-production.access.log"),
        additions: Path::new("/etc/nginx/conf.d/lockstep-notes-production.d"),
        proxy_params: Some(Path::new("/etc/nginx/proxy_params")),
        sizes: Sizes::OURS,
        probe_secret: PROBE_SECRET,
    };
    site::render(&store::environment(), site, &places)
}

/// For [`crate::write`].
pub(crate) fn site_texts(version: &str) -> String {
    sites(version).iter().map(site_text).collect()
}

/// What an earlier version has installed may be written otherwise today: it is still known by its first lines.
#[test]
fn installed_sites_are_still_known_by_their_text() {
    for version in VERSIONS {
        let all = golden::text(version, "sites.conf");
        let texts: Vec<String> =
            all.split("# Made by").skip(1).map(|rest| format!("# Made by{rest}")).collect();
        let sites = sites(version);
        assert_eq!(texts.len(), sites.len(), "{ADVICE}");
        for (text, site) in texts.iter().zip(&sites) {
            assert_eq!(site::digest_of(text), Some(site.digest()), "{ADVICE}");
            assert_eq!(site::address_of(text), Some(Address::of_site(site)), "{ADVICE}");
        }
    }
}

/// `traffic/` with the switch file, the copy of the site and what was there before the last deployment.
#[test]
fn what_nginx_has_is_known_again() {
    for version in VERSIONS {
        let folder = golden::copy(version, "agent");
        let settings = NginxSettings { sites: folder.path().join("sites"), ..NginxSettings::default() };
        let nginx = Nginx::new(&settings, folder.path().join("traffic"), ObjectNames::default());
        let environment = store::environment();
        let [before, installed] = &sites(version)[..] else { panic!("there are two") };
        assert_eq!(nginx.slot(&environment), Slot::Green);
        let there = nginx.installed(&environment).expect("read");
        assert_eq!(there, InstalledSite::Ours(installed.digest()), "{ADVICE}");
        let address = nginx.address(&environment).expect("it is served somewhere");
        assert_eq!((address.server_name.as_str(), address.port), ("notes.example", installed.listen_port));

        // An agent that was killed between the copy and the file knows the text by what it wrote down before.
        let file = folder.path().join("sites/lockstep-notes-production.conf");
        let previous = golden::text(version, "agent/traffic/notes-production/site.previous");
        let previous: serde_json::Value = serde_json::from_str(&previous).expect("what was there before");
        fs::write(&file, previous["file"].as_str().expect("a text")).expect("written");
        let there = nginx.installed(&environment).expect("read");
        assert_eq!(there, InstalledSite::Ours(before.digest()), "{ADVICE}");

        nginx.switch(&environment, Slot::Blue).expect("switched");
        assert!(!folder.path().join("traffic/notes-production/green").exists());
        nginx.switch(&environment, Slot::Green).expect("switched");
        assert!(folder.path().join("traffic/notes-production/green").exists());
    }
}
