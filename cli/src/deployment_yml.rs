//! `deployment.yml`: the types of what is written there, and their conversion to [`lockstep_core::spec`].
//!
//! An environment may override any top-level key; maps are merged, everything else is replaced. A key that only a later
//! release of Lockstep supports is refused with a message of its own, not as an unknown key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lockstep_core::name::{ApplicationName, EnvironmentKey, EnvironmentName, ProcessName};
use lockstep_core::spec::check::{Problem, check_declared};
use lockstep_core::spec::{
    DatabaseSpec, DeploySpec, EnvironmentSpec, HealthSpec, HostRoles, ImageSource, Mode, PgHba, ProcessSpec,
    Role, SnapshotSpec, Standby, Tls, TrafficSpec, Volume, VolumeAccess, VolumeScope,
};
use lockstep_core::time::{InvalidDuration, Millis};

mod effective;
pub mod reference;
mod typed;
mod words;

pub use effective::{Effective, Origin};
pub use words::Hint;

use crate::bounded_file;
use typed::{File, FileTyped, Image, Keys, Process, Repository, Traffic, TypedPgHba, TypedTls};

/// Where the file is searched, from the directory in which the command runs.
const PLACES: &[&str] = &["deployment.yml", "deploy/deployment.yml"];

/// More than any project has, and read in no time. What the parser would take seconds for is refused before it.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// A project: the file as typed.
#[derive(Debug)]
pub struct Project {
    path: PathBuf,
    file: File,
    text: String,
    /// The same without types.
    typed: serde_json::Value,
}

/// One environment of a project, as its specification.
#[derive(Debug)]
pub struct DeclaredEnvironment {
    pub spec: EnvironmentSpec,
    /// The folder of the file: paths in it are relative to this.
    pub folder: PathBuf,
    /// The file with its secrets, which need not exist.
    pub env_file: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum DeclarationError {
    #[error("there is no deployment.yml")]
    Missing { looked_in: PathBuf },
    #[error("{path} cannot be read")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} has more than {} KiB", FILE_BYTES_MAX / 1024)]
    TooLarge { path: PathBuf },
    /// The parser's message, with the line underlined.
    #[error("{path} is not valid")]
    Parse { path: PathBuf, diagnostic: String, hint: Option<Hint> },
    #[error("{path} has no environment {wanted}")]
    NoEnvironment { path: PathBuf, wanted: String, known: Vec<String>, nearest: Option<String> },
    #[error("{path} cannot be deployed as declared")]
    Problems { path: PathBuf, problems: Vec<Problem> },
}

impl Project {
    /// The project of `directory`.
    ///
    /// # Errors
    /// When there is no file, or it is not valid.
    pub fn find(directory: &Path) -> Result<Self, DeclarationError> {
        let there = PLACES.iter().map(|place| directory.join(place)).find(|path| path.is_file());
        let path = there.ok_or_else(|| DeclarationError::Missing { looked_in: directory.to_owned() })?;
        match bounded_file::read_text(&path, FILE_BYTES_MAX) {
            Ok(Some(text)) => Self::read(path, &text),
            Ok(None) => Err(DeclarationError::TooLarge { path }),
            Err(source) => Err(DeclarationError::Read { path, source }),
        }
    }

    fn read(path: PathBuf, text: &str) -> Result<Self, DeclarationError> {
        // As in YAML 1.2: `off` is a word, and only `true` and `false` are no text.
        let options = || serde_saphyr::options! { strict_booleans: true };
        match serde_saphyr::from_str_with_options(text, options()) {
            Ok(file) => {
                // A valid file is also a valid document without types.
                let typed = serde_saphyr::from_str_with_options(text, options()).unwrap_or_default();
                Ok(Self { path, file, text: text.to_owned(), typed })
            }
            Err(error) => {
                let words::Explanation { diagnostic, hint } = words::explain(&error);
                Err(DeclarationError::Parse { path, diagnostic, hint })
            }
        }
    }

    pub fn application(&self) -> &ApplicationName {
        &self.file.app
    }

    pub fn environments(&self) -> impl Iterator<Item = &EnvironmentName> {
        self.file.environments.keys()
    }

    /// One environment, checked.
    ///
    /// # Errors
    /// When it is not declared, or cannot be deployed as declared.
    pub fn environment(&self, name: &str) -> Result<DeclaredEnvironment, DeclarationError> {
        let found = self.file.environments.iter().find(|(there, _)| there.as_str() == name);
        let Some((name, own)) = found else {
            let known: Vec<String> = self.environments().map(ToString::to_string).collect();
            let nearest = nearest(name, known.iter().map(String::as_str));
            return Err(DeclarationError::NoEnvironment {
                path: self.path.clone(),
                wanted: name.to_owned(),
                known,
                nearest,
            });
        };
        let keys = own.clone().over(self.file.keys.clone());
        let folder = self.path.parent().unwrap_or(Path::new(".")).to_owned();
        let env_file = folder.join(keys.env_file.clone().unwrap_or_else(|| format!(".env.{name}")));
        let problems = |problems| DeclarationError::Problems { path: self.path.clone(), problems };
        let key = EnvironmentKey::new(self.file.app.clone(), name.clone());
        self.require_url(&key, &keys).map_err(problems)?;
        let spec = to_spec(key, keys).map_err(problems)?;
        check_declared(spec.clone()).map_err(problems)?;
        Ok(DeclaredEnvironment { spec, folder, env_file })
    }

    /// The default is the address of one environment: two of them would share it.
    fn require_url(&self, key: &EnvironmentKey, keys: &Keys) -> Result<(), Vec<Problem>> {
        if keys.url.is_some() || self.file.environments.len() < 2 {
            return Ok(());
        }
        let EnvironmentKey { application, environment } = key;
        let line = line_of_environment(&self.text, environment.as_str());
        let line = line.map(|line| format!(" (line {line})")).unwrap_or_default();
        let url = format!("url: http://{environment}.{application}.example");
        let instead = format!("write where its users reach it, as in `{url}`");
        Err(vec![problem(&format!("environments.{environment}{line}"), "has no url", &instead)])
    }

    /// Every value of the environment, and where it is set.
    ///
    /// # Errors
    /// As [`Project::environment`].
    pub fn effective(&self, name: &str) -> Result<Vec<Effective>, DeclarationError> {
        Ok(effective::effective(&self.environment(name)?.spec, &self.typed))
    }
}

/// The JSON Schema of the file, derived from the types that it is read into.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(FileTyped).to_value()
}

/// The known name that is most like `wanted`; `None` if none is.
pub fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|name| (strsim::damerau_levenshtein(wanted, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len().max(wanted.len()) / 3)
        .min()
        .map(|(_, name)| name.to_owned())
}

/// The line in which the environment is declared, from 1; `None` if it is not found.
fn line_of_environment(text: &str, name: &str) -> Option<usize> {
    let begin = text.lines().position(|line| line.trim_start().starts_with("environments:"))?;
    let is_key = |line: &str| {
        line.match_indices(name).any(|(at, _)| {
            let before = line[..at].trim_end_matches(['"', '\'']);
            let after = line[at + name.len()..].trim_start_matches(['"', '\'']).trim_start();
            (before.is_empty() || before.ends_with([' ', '{', ','])) && after.starts_with(':')
        })
    };
    text.lines().enumerate().skip(begin).find(|(_, line)| is_key(line)).map(|(at, _)| at + 1)
}

fn to_spec(key: EnvironmentKey, keys: Keys) -> Result<EnvironmentSpec, Vec<Problem>> {
    let mut found = Vec::new();
    let mode = keys.mode.map_or(Mode::Production, Mode::from);
    let processes = processes(&keys, mode, &mut found);
    let deploy = deploy(&keys, mode, &mut found);
    let traffic = traffic(&keys, &mut found);
    let database = database(&keys, &mut found);
    let image = image(&keys, &mut found);
    if keys.cron.is_some() {
        found.push(unsupported("cron", "run it outside Lockstep"));
    }
    let hosts = keys.hosts.unwrap_or_default();
    let spec = EnvironmentSpec {
        key,
        description: keys.description,
        url: keys.url.unwrap_or_else(|| "http://localhost".to_owned()),
        branch: keys.branch,
        mode,
        image,
        processes,
        database,
        traffic,
        networks: keys.networks.unwrap_or_default(),
        deploy,
        env: keys.env.into_iter().map(|(name, value)| (name, value.0)).collect(),
        required: keys.required.unwrap_or_default(),
        public: keys.public.unwrap_or_default(),
        hosts: HostRoles { app: hosts.app, lb: hosts.lb, db: hosts.db },
    };
    if found.is_empty() { Ok(spec) } else { Err(found) }
}

fn unsupported(path: &str, instead: &str) -> Problem {
    Problem {
        path: path.to_owned(),
        what: "is not supported in this release".to_owned(),
        instead: instead.to_owned(),
    }
}

fn problem(path: &str, what: impl Into<String>, instead: &str) -> Problem {
    Problem { path: path.to_owned(), what: what.into(), instead: instead.to_owned() }
}

fn invalid_duration(path: &str, error: &InvalidDuration) -> Problem {
    let what = format!("{:?} is not a duration", error.text);
    problem(path, what, "write a whole number with ms, s, m, h or d, as in 30s")
}

fn image(keys: &Keys, found: &mut Vec<Problem>) -> ImageSource {
    match (&keys.image, &keys.build) {
        (Some(Image::Name(repository) | Image::Full(Repository { repository })), None) => {
            ImageSource::Repository(repository.clone())
        }
        (None, Some(build)) => ImageSource::Build {
            context: build.context.clone().unwrap_or_else(|| ".".to_owned()),
            dockerfile: build.dockerfile.clone().unwrap_or_else(|| "Dockerfile".to_owned()),
        },
        (Some(_), Some(_)) => {
            found.push(problem("image", "is set beside build", "keep one of the two"));
            ImageSource::Repository(String::new())
        }
        (None, None) => {
            found.push(problem("image", "is missing", "name the image's repository, as in `image: notes`"));
            ImageSource::Repository(String::new())
        }
    }
}

fn processes(keys: &Keys, mode: Mode, found: &mut Vec<Problem>) -> BTreeMap<ProcessName, ProcessSpec> {
    let mut typed = keys.processes.clone();
    if let Some(port) = keys.port {
        let web: ProcessName = "web".parse().expect("a constant that is a name");
        typed.entry(web).or_default().port.get_or_insert(port);
    }
    typed
        .into_iter()
        .map(|(name, process)| {
            let spec = to_process_spec(&name, process, mode, found);
            (name, spec)
        })
        .collect()
}

fn to_process_spec(name: &ProcessName, typed: Process, mode: Mode, found: &mut Vec<Problem>) -> ProcessSpec {
    let at = |key: &str| format!("processes.{name}.{key}");
    let health = typed.health.unwrap_or_default();
    let quick = mode == Mode::Development;
    let role = match typed.role {
        Some(role) => role.into(),
        None if typed.port.is_some() => Role::Web,
        None => Role::Worker,
    };
    let mut duration =
        |key: &str, text: Option<String>, otherwise: Millis| match text.as_deref().map(Millis::parse) {
            None => otherwise,
            Some(Ok(length)) => length,
            Some(Err(error)) => {
                found.push(invalid_duration(&at(key), &error));
                otherwise
            }
        };
    let timeout = duration("health.timeout", health.timeout, Millis::from_secs(60));
    let interval = duration("health.interval", health.interval, Millis(100));
    let stop_grace = duration("stop_grace", typed.stop_grace, Millis::from_secs(30));
    let memory_bytes = typed.memory.and_then(|text| {
        parse_size(&text).or_else(|| {
            found.push(problem(&at("memory"), format!("{text:?} is not a size"), "write it as in 512Mi"));
            None
        })
    });
    let volumes = typed.volumes.unwrap_or_default();
    ProcessSpec {
        role,
        command: typed.command.unwrap_or_default(),
        port: typed.port,
        health: HealthSpec {
            path: health.path.unwrap_or_else(|| "/health".to_owned()),
            timeout,
            interval,
            consecutive: health.consecutive.unwrap_or(if quick { 1 } else { 3 }),
        },
        volumes: volumes.iter().map(|text| parse_volume(text)).collect(),
        memory_bytes,
        cpu_milli: typed.cpus.map(milli),
        user: typed.user,
        stop_signal: typed.stop_signal,
        stop_grace,
        standby: typed.standby.map_or(Standby::Run, Standby::from),
    }
}

/// Thousandths of a processor. An impossible number becomes 0, which the check refuses.
fn milli(cpus: f64) -> u64 {
    let milli = (cpus * 1000.0).round();
    // More than a million processors is a mistake.
    if (1.0..1e9).contains(&milli) { milli as u64 } else { 0 }
}

/// Parses `uploads:/data`, `/srv/data:/data:ro` or `uploads:/data:ro,shared`. Options that are unknown stay in the
/// target, which the check then refuses.
fn parse_volume(text: &str) -> Volume {
    let (source, rest) = text.split_once(':').unwrap_or(("", text));
    let plain = |target: &str| Volume {
        source: source.to_owned(),
        target: target.to_owned(),
        access: VolumeAccess::ReadWrite,
        scope: VolumeScope::NotSaid,
    };
    let Some((target, words)) = rest.split_once(':') else { return plain(rest) };
    let mut volume = plain(target);
    for word in words.split(',') {
        match word {
            "rw" => volume.access = VolumeAccess::ReadWrite,
            "ro" => volume.access = VolumeAccess::ReadOnly,
            "shared" => volume.scope = VolumeScope::Shared,
            "per_host" => volume.scope = VolumeScope::PerHost,
            _ => return plain(rest),
        }
    }
    volume
}

/// Parses `512Mi`, `1Gi`, `512M` or a plain number of bytes.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let count: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "K" | "k" => 1_000,
        "M" | "m" => 1_000_000,
        "G" | "g" => 1_000_000_000,
        _ => return None,
    };
    count.checked_mul(unit)
}

fn deploy(keys: &Keys, mode: Mode, found: &mut Vec<Problem>) -> DeploySpec {
    let typed = keys.deploy.clone().unwrap_or_default();
    let quick = mode == Mode::Development;
    if typed.strategy.as_deref().is_some_and(|strategy| strategy != "blue-green") {
        found.push(unsupported("deploy.strategy", "write `strategy: blue-green`"));
    }
    if typed.rollback.as_deref().is_some_and(|rollback| rollback != "automatic") {
        found.push(unsupported("deploy.rollback", "write `rollback: automatic`"));
    }
    let mut duration =
        |key: &str, text: &Option<String>, otherwise: u64| match text.as_deref().map(Millis::parse) {
            None => Millis::from_secs(otherwise),
            Some(Ok(length)) => length,
            Some(Err(error)) => {
                found.push(invalid_duration(&format!("deploy.{key}"), &error));
                Millis::from_secs(otherwise)
            }
        };
    DeploySpec {
        lock_timeout: duration("lock_timeout", &typed.lock_timeout, 30 * 60),
        drain: duration("drain", &typed.drain, if quick { 5 } else { 30 }),
        bake: duration("bake", &typed.bake, if quick { 0 } else { 20 }),
        parallel: typed.parallel,
        quorum: typed.quorum,
        log_directory: None,
        state_file: None,
    }
}

fn traffic(keys: &Keys, found: &mut Vec<Problem>) -> TrafficSpec {
    let typed = keys.traffic.clone().unwrap_or_default();
    if typed.manage.as_deref().is_some_and(|manage| manage != "site") {
        found.push(unsupported("traffic.manage", "write `manage: site`"));
    }
    let mut duration =
        |key: &str, text: &Option<String>, otherwise: Millis| match text.as_deref().map(Millis::parse) {
            None => otherwise,
            Some(Ok(length)) => length,
            Some(Err(error)) => {
                found.push(invalid_duration(&format!("traffic.{key}"), &error));
                otherwise
            }
        };
    TrafficSpec {
        connect_timeout: duration("connect_timeout", &typed.connect_timeout, TrafficSpec::connect_timeout()),
        send_timeout: duration("send_timeout", &typed.send_timeout, TrafficSpec::send_timeout()),
        read_timeout: duration("read_timeout", &typed.read_timeout, Millis::from_secs(60)),
        tls: tls(&typed, found),
        body_limit: typed.body_limit.unwrap_or_else(|| "10m".to_owned()),
    }
}

fn tls(typed: &Traffic, found: &mut Vec<Problem>) -> Tls {
    let files = (&typed.certificate, &typed.key);
    match (typed.tls, files) {
        (Some(TypedTls::Acme), _) => {
            found.push(unsupported(
                "traffic.tls",
                "write `tls: existing`, and let another program renew the certificate",
            ));
        }
        (Some(TypedTls::Existing), (Some(certificate), Some(key))) => {
            return Tls::Existing { certificate: certificate.clone(), key: key.clone() };
        }
        (Some(TypedTls::Existing), (certificate, _)) => {
            let missing = if certificate.is_none() { "traffic.certificate" } else { "traffic.key" };
            found.push(problem(missing, "is missing", "name the file on the load balancer"));
        }
        (Some(TypedTls::Off) | None, (None, None)) => {}
        (Some(TypedTls::Off) | None, _) => found.push(problem(
            "traffic.certificate",
            "has no effect without TLS",
            "write `tls: existing`, or remove certificate and key",
        )),
    }
    Tls::Off
}

fn database(keys: &Keys, found: &mut Vec<Problem>) -> Option<DatabaseSpec> {
    let typed = keys.database.clone()?;
    if typed.postgres.name.is_some() || typed.postgres.extensions.is_some() {
        found.push(unsupported(
            "database.postgres.name",
            "create role and database yourself, and write `postgres: { url_from: DATABASE_URL }`",
        ));
    }
    if typed.migrations.as_ref().is_some_and(|migrations| migrations.command.is_some()) {
        found.push(unsupported("database.migrations.command", "write `migrations: { path: /migrations }`"));
    }
    Some(DatabaseSpec {
        url_from: typed.postgres.url_from.unwrap_or_else(|| "DATABASE_URL".to_owned()),
        pg_hba: match typed.postgres.pg_hba {
            Some(TypedPgHba::ByHand) => PgHba::ByHand,
            Some(TypedPgHba::Managed) | None => PgHba::Managed,
        },
        migrations: typed.migrations.and_then(|migrations| migrations.path),
        snapshot: typed.snapshot.map(|snapshot| SnapshotSpec {
            directory: snapshot.directory,
            keep: snapshot.keep.unwrap_or(14),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Project, DeclarationError> {
        Project::read(PathBuf::from("deployment.yml"), text)
    }

    #[test]
    fn four_lines_are_enough() {
        let project =
            read("app: notes\nimage: notes\nport: 8080\nenvironments: { production: {} }\n").unwrap();
        let spec = project.environment("production").unwrap().spec;
        assert_eq!(spec.key.to_string(), "notes/production");
        assert_eq!(spec.web_processes().count(), 1);
        assert_eq!(spec.deploy.bake, Millis::from_secs(20));
    }

    #[test]
    fn an_environment_overrides_and_merges() {
        let project = read(
            "app: notes\nimage: notes\nprocesses:\n  web: { port: 8080, memory: 512Mi }\nenv: { A: 1, B: two }\n\
             environments:\n  staging:\n    mode: development\n    env: { B: three }\n    processes: { web: { memory: 1Gi } }\n",
        )
        .unwrap();
        let spec = project.environment("staging").unwrap().spec;
        let (_, web) = spec.web_processes().next().unwrap();
        assert_eq!((web.port, web.memory_bytes, web.health.consecutive), (Some(8080), Some(1 << 30), 1));
        assert_eq!(spec.env["A"], "1");
        assert_eq!(spec.env["B"], "three");
    }

    #[test]
    fn each_value_says_where_it_stands() {
        let project = read(
            "app: notes\nimage: notes\nport: 8080\nprocesses: { web: { memory: 512Mi } }\nenv: { A: 1 }\n\
             environments:\n  staging: { mode: staging, processes: { web: { stop_grace: 5s } } }\n",
        )
        .unwrap();
        let all = project.effective("staging").unwrap();
        let of = |key: &str| {
            let found = all.iter().find(|effective| effective.key == key);
            let found = found.unwrap_or_else(|| panic!("{key} is not among {all:?}"));
            (found.from, found.value.to_string())
        };
        assert_eq!(of("processes.web.port"), (Origin::File, "8080".to_owned()));
        assert_eq!(of("image.repository"), (Origin::File, "\"notes\"".to_owned()));
        assert_eq!(of("processes.web.memory"), (Origin::File, "\"512Mi\"".to_owned()));
        assert_eq!(of("processes.web.stop_grace"), (Origin::Environment, "\"5s\"".to_owned()));
        assert_eq!(of("mode"), (Origin::Environment, "\"staging\"".to_owned()));
        assert_eq!(of("deploy.bake"), (Origin::Default, "\"20s\"".to_owned()));
        assert_eq!(of("deploy.lock_timeout"), (Origin::Default, "\"30m\"".to_owned()));
        assert_eq!(of("processes.web.health.interval"), (Origin::Default, "\"100ms\"".to_owned()));
    }

    #[test]
    fn a_mistake_is_pointed_at() {
        let error =
            read("app: notes\nimage: notes\nprot: 8080\nenvironments: { production: {} }\n").unwrap_err();
        let DeclarationError::Parse { diagnostic, hint, .. } = error else { panic!("{error}") };
        assert!(diagnostic.contains("prot") && diagnostic.contains('3'), "{diagnostic}");
        assert_eq!(hint, Some(Hint::Nearest("port".to_owned())), "{diagnostic}");
        let project =
            read("app: notes\nimage: notes\nport: 8080\nenvironments: { production: {} }\n").unwrap();
        let error = project.environment("prodution").unwrap_err();
        assert!(
            matches!(error, DeclarationError::NoEnvironment { nearest: Some(near), .. } if near == "production")
        );
    }

    #[test]
    fn the_line_of_an_environment_is_found_in_both_styles() {
        let block = "app: staging\nenvironments:\n  production:\n    url: http://a\n  staging: {}\n";
        assert_eq!(line_of_environment(block, "staging"), Some(5));
        let flow = "app: notes\nenvironments: { production: {}, \"staging\": {} }\n";
        assert_eq!(line_of_environment(flow, "staging"), Some(2));
        assert_eq!(line_of_environment(flow, "stag"), None);
    }
}
