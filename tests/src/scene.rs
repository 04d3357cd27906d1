//! What every scenario stands on: a stage with a name of its own, and what an operator does on it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lockstep_core::plan::Plan;
use lockstep_core::record::claim::Claim;
use lockstep_core::record::history::DeploymentSummary;
use lockstep_core::run::journal::Verdict;
use lockstep_core::view::environment::EnvironmentStatus;
use lockstep_tests::bed::etcd::{Etcd, Members};
use lockstep_tests::bed::stage::{Record, Said, Setting, Stage};
use lockstep_tests::bed::wait::until;
use lockstep_tests::load::{Load, Report};
use tempfile::TempDir;

pub(crate) const ENVIRONMENT: &str = "production";

/// For what should be so in a moment.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A deployment on this bed takes some seconds.
pub(crate) const DEPLOYMENT_LIMIT: Duration = Duration::from_secs(90);

/// What the one that joins is called.
pub(crate) const SECOND_COORDINATOR: &str = "c2";

pub(crate) struct Scene {
    pub(crate) stage: Stage,
    /// Where the record is, unless it is in SQLite.
    _etcd: Option<Etcd>,
    _directory: TempDir,
}

impl Scene {
    pub(crate) fn open(name: &str) -> Result<Self> {
        Self::open_with_bake(name, "1s")
    }

    /// A long bake is time in which a deployment is open.
    pub(crate) fn open_with_bake(name: &str, bake: &'static str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let application = format!("s-{name}-{}", std::process::id());
        let setting = Setting { application, bake, drain: "1s" };
        let stage = Stage::start(&directory.path().join("stage"), &setting)?;
        Ok(Self { stage, _etcd: None, _directory: directory })
    }

    /// With the record in an etcd of three members, and two coordinators.
    pub(crate) fn open_in_cluster(name: &str, bake: &'static str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let etcd = Etcd::start(&directory.path().join("etcd"), Members::Three)?;
        let application = format!("s-{name}-{}", std::process::id());
        let setting = Setting { application, bake, drain: "1s" };
        let mut stage = Stage::start_on(&directory.path().join("stage"), &setting, Record::Etcd(&etcd))?;
        stage.add_coordinator(SECOND_COORDINATOR, &etcd)?;
        Ok(Self { stage, _etcd: Some(etcd), _directory: directory })
    }

    pub(crate) fn deploy(&self, image: &str) -> Result<Said> {
        self.stage.lockstep(&["deploy", ENVIRONMENT, "--image", image])
    }

    pub(crate) fn plan(&self, image: &str) -> Result<Plan> {
        Ok(serde_json::from_value(self.stage.json(&["plan", ENVIRONMENT, "--image", image])?)?)
    }

    pub(crate) fn status(&self) -> Result<EnvironmentStatus> {
        let all: Vec<EnvironmentStatus> = serde_json::from_value(self.stage.json(&["status", ENVIRONMENT])?)?;
        all.into_iter().next().context("the environment is not there")
    }

    /// Newest first.
    pub(crate) fn history(&self) -> Result<Vec<DeploymentSummary>> {
        Ok(serde_json::from_value(self.stage.json(&["history", ENVIRONMENT])?)?)
    }

    pub(crate) fn last(&self) -> Result<DeploymentSummary> {
        self.history()?.into_iter().next().context("the history is empty")
    }

    pub(crate) fn wait_until_open(&self) -> Result<Claim> {
        let mut open = None;
        until("a deployment is open", SOON, || {
            // The environment becomes known with its first deployment.
            let said = self.stage.lockstep(&["--output", "json", "status", ENVIRONMENT])?;
            if said.code == 0 {
                let all: Vec<EnvironmentStatus> = serde_json::from_str(&said.stdout)?;
                open = all.into_iter().next().and_then(|status| status.open).map(|status| status.open);
            }
            Ok(open.is_some())
        })?;
        open.context("a deployment was open")
    }

    pub(crate) fn wait_until_free(&self) -> Result<()> {
        until("no deployment is open", DEPLOYMENT_LIMIT, || Ok(self.status()?.open.is_none()))
    }

    /// What the site answers to `GET path`, as it comes.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        get(self.stage.site, path)
    }

    /// The version that the site says it serves.
    pub(crate) fn served_version(&self) -> Result<String> {
        version_in(&self.get("/")?)
    }

    /// Changes the project's declaration until the value that it gives is dropped.
    pub(crate) fn declare(&self, from: &str, to: &str) -> Result<Kept> {
        replace(&self.stage.deployment_yml(), from, to)
    }

    /// As [`Scene::declare`], for the file of secrets.
    pub(crate) fn write_secrets(&self, extra: &str) -> Result<Kept> {
        let file = self.stage.env_file();
        let kept = Kept::of(&file)?;
        let text = fs::read_to_string(&file)?;
        fs::write(&file, format!("{text}{extra}"))?;
        Ok(kept)
    }
}

/// Ends a load and asserts that it was one, and that nothing of it was lost.
pub(crate) fn assert_none_lost(load: Load) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(load.stop());
    ensure!(report.requests > 0, "the load sent nothing");
    ensure!(
        report.failed == 0,
        "{} of {} requests failed: {:?}",
        report.failed,
        report.requests,
        report.failures
    );
    Ok(report)
}

pub(crate) fn get(site: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(site)?;
    stream.set_read_timeout(Some(SOON))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", site.ip())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

pub(crate) fn version_in(answer: &str) -> Result<String> {
    let header = answer
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("x-version: ").map(str::to_owned));
    header.with_context(|| format!("the answer has no X-Version: {answer}"))
}

pub(crate) trait Expect: Sized {
    /// The exit code, and words that must be in what was said.
    fn expect_said(self, code: i32, words: &[&str]) -> Result<Said>;
}

impl Expect for Said {
    fn expect_said(self, code: i32, words: &[&str]) -> Result<Said> {
        let all = self.all();
        let missing: Vec<&&str> = words.iter().filter(|word| !all.contains(**word)).collect();
        if self.code != code || !missing.is_empty() {
            bail!("it ended with {} instead of {code}, without {missing:?}:\n{all}", self.code);
        }
        Ok(self)
    }
}

pub(crate) trait All {
    fn all(&self) -> String;
}

impl All for Said {
    fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

pub(crate) fn assert_verdict(scene: &Scene, verdict: Verdict) -> Result<DeploymentSummary> {
    let last = scene.last()?;
    ensure!(last.verdict == Some(verdict), "the last deployment {:?}, and not {verdict}", last.verdict);
    Ok(last)
}

/// A file as it was, which it is again when this is dropped.
#[must_use = "the file is as it was when this is dropped"]
pub(crate) struct Kept {
    path: PathBuf,
    before: Vec<u8>,
    mode: u32,
}

impl Kept {
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let before = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mode = fs::metadata(path)?.permissions().mode();
        Ok(Self { path: path.to_owned(), before, mode })
    }
}

impl Drop for Kept {
    #[expect(clippy::let_underscore_must_use, reason = "a test that fails should say why, and not this")]
    fn drop(&mut self) {
        let _ = fs::write(&self.path, &self.before);
        let _ = fs::set_permissions(&self.path, fs::Permissions::from_mode(self.mode));
    }
}

/// Replaces `from`, which must be there, in a file.
pub(crate) fn replace(path: &Path, from: &str, to: &str) -> Result<Kept> {
    let kept = Kept::of(path)?;
    let text = fs::read_to_string(path)?;
    ensure!(text.contains(from), "{} does not contain {from:?}", path.display());
    fs::write(path, text.replacen(from, to, 1))?;
    Ok(kept)
}
