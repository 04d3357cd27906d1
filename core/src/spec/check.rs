//! Finds everything that is wrong with a declaration at once, and says what to write instead. The command line uses it
//! to point at lines. The coordinator uses it because it does not trust its callers.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::name::ProcessName;
use crate::spec::{
    DatabaseSpec, EnvironmentSpec, ProcessSpec, Role, Standby, Tls, VolumeAccess, VolumeScope,
};
use crate::time::Millis;

mod declared;

pub use declared::{DECLARATION_BYTES_MAX, PROCESSES_MAX};

use declared::check_only_declared;

/// A deployment owns its environment for at most this long (T3).
pub const LOCK_TIMEOUT_MAX: Millis = Millis::from_secs(30 * 60);

/// The kernel gives up on a connection by itself at about that time.
const CONNECT_TIMEOUT_MAX: Millis = Millis::from_secs(75);

/// Whoever waits for a day for one answer does not wait for it any more.
const TIMEOUT_MAX: Millis = Millis::from_secs(24 * 3600);

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Where, as a path of keys: `processes.web.port`.
    pub path: String,
    pub what: String,
    /// What to write instead.
    pub instead: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.path, self.what, self.instead)
    }
}

/// A declaration that has been checked; it cannot be made otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ValidatedSpec(EnvironmentSpec);

impl ValidatedSpec {
    pub fn get(&self) -> &EnvironmentSpec {
        &self.0
    }
}

impl core::ops::Deref for ValidatedSpec {
    type Target = EnvironmentSpec;
    fn deref(&self) -> &EnvironmentSpec {
        &self.0
    }
}

/// Checks `spec` as a whole.
///
/// # Errors
/// Every problem that there is, in the order of the file.
pub fn check(spec: EnvironmentSpec) -> Result<ValidatedSpec, Vec<Problem>> {
    let mut found = Problems(Vec::new());
    check_url(&spec, &mut found);
    check_traffic(&spec, &mut found);
    if spec.processes.is_empty() {
        found.add("processes", "is empty", "declare at least `web: { port: 8080 }`");
    }
    if spec.web_processes().count() > 1 {
        found.add(
            "processes",
            "several processes have the role web",
            "keep one; the others can be `role: worker`",
        );
    }
    if !spec.processes.is_empty() && spec.web_processes().count() == 0 {
        found.add(
            "processes",
            "no process has the role web",
            "traffic needs one process with a port and `role: web`",
        );
    }
    for (name, process) in &spec.processes {
        check_process(name, process, &mut found);
    }
    if let Some(database) = &spec.database {
        check_database(database, &mut found);
    }
    check_deploy(&spec, &mut found);
    check_hosts(&spec, &mut found);
    for name in spec.env.keys() {
        if !is_variable(name) {
            found.add(
                &format!("env.{name}"),
                "is not a valid name of a variable",
                "use letters, digits and underscores, no digit first",
            );
        }
    }
    if found.0.is_empty() { Ok(ValidatedSpec(spec)) } else { Err(found.0) }
}

/// Checks what is declared for a deployment. What is recorded may break a rule that is here alone.
///
/// # Errors
/// As [`check()`].
pub fn check_declared(spec: EnvironmentSpec) -> Result<ValidatedSpec, Vec<Problem>> {
    let mut found = Problems(Vec::new());
    check_only_declared(&spec, &mut found);
    match check(spec) {
        Ok(spec) if found.0.is_empty() => Ok(spec),
        Ok(_) => Err(found.0),
        Err(others) => {
            // What breaks two rules is said once, by the one that every record keeps.
            let is_new = |problem: &Problem| others.iter().all(|other| other.path != problem.path);
            Err(found.0.into_iter().filter(is_new).chain(others.clone()).collect())
        }
    }
}

struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, path: &str, what: &str, instead: &str) {
        self.0.push(Problem { path: path.to_string(), what: what.to_string(), instead: instead.to_string() });
    }
}

fn check_url(spec: &EnvironmentSpec, found: &mut Problems) {
    if spec.site_address().is_none() {
        found.add(
            "url",
            &format!("{:?} is not a URL that nginx can serve", spec.url),
            "write http://host or http://host:port, without a path",
        );
    }
}

fn check_traffic(spec: &EnvironmentSpec, found: &mut Problems) {
    let traffic = &spec.traffic;
    let limit = traffic.body_limit.as_str();
    let digits = limit.trim_end_matches(['k', 'm', 'g', 'K', 'M', 'G']);
    if digits.is_empty() || limit.len() - digits.len() > 1 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        found.add(
            "traffic.body_limit",
            &format!("{limit:?} is not a size"),
            "write it as nginx does, as in 10m",
        );
    }
    let lengths = [
        ("connect_timeout", traffic.connect_timeout, CONNECT_TIMEOUT_MAX),
        ("send_timeout", traffic.send_timeout, TIMEOUT_MAX),
        ("read_timeout", traffic.read_timeout, TIMEOUT_MAX),
    ];
    for (key, length, most) in lengths {
        if length.0 == 0 || length > most {
            found.add(
                &format!("traffic.{key}"),
                &format!("is {length}"),
                &format!("write more than 0, and at most {most}"),
            );
        }
    }
    let Tls::Existing { certificate, key } = &traffic.tls else { return };
    if !spec.url.starts_with("https://") {
        found.add(
            "traffic.tls",
            &format!("is existing, but url is {}", spec.url),
            "write the url with https://, or `tls: off`",
        );
    }
    for (name, path) in [("certificate", certificate), ("key", key)] {
        // It stands in nginx's configuration, where these mean something.
        let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '@' | '+');
        if !path.starts_with('/') || !path.chars().all(is_plain) {
            found.add(
                &format!("traffic.{name}"),
                &format!("{path:?} is not an absolute path that nginx accepts"),
                "begin it with a slash, and use letters, digits and . - _ @ +",
            );
        }
    }
}

fn check_process(name: &ProcessName, process: &ProcessSpec, found: &mut Problems) {
    let at = |key: &str| format!("processes.{name}.{key}");
    match process.role {
        Role::Web if process.port.is_none() => found.add(
            &at("port"),
            "is missing",
            "write the port on which the web process listens, as in `port: 8080`",
        ),
        Role::Web | Role::Worker => {}
        Role::Cron | Role::Singleton => found.add(
            &at("role"),
            "cron and singleton processes come with a later release of Lockstep",
            "use web or worker, or run this process without Lockstep",
        ),
    }
    if process.port == Some(0) {
        found.add(&at("port"), "is 0", "write the port on which the process listens");
    }
    match process.standby {
        Standby::Run => {}
        Standby::Pause | Standby::Stop => found.add(
            &at("standby"),
            "pause and stop come with a later release of Lockstep",
            "write `standby: run`",
        ),
    }
    if !process.health.path.starts_with('/') || process.health.path.contains([' ', '"', '\n', '\r']) {
        found.add(
            &at("health.path"),
            &format!("{:?} is not a path", process.health.path),
            "begin it with a slash, as in /health",
        );
    }
    if process.health.consecutive == 0 {
        found.add(&at("health.consecutive"), "is 0", "require at least one healthy answer; 3 is usual");
    }
    if process.health.interval.0 < 10 {
        found.add(&at("health.interval"), "is below 10ms", "100ms is usual");
    }
    for (index, volume) in process.volumes.iter().enumerate() {
        let is_path = volume.target.starts_with('/') && !volume.target.contains(':');
        if !is_path || volume.source.is_empty() || volume.source.contains("..") {
            found.add(
                &at(&format!("volumes[{index}]")),
                "is not source:/target",
                "write the name of a volume or a path on the host, a colon, and a path in the container, as in data:/data; :ro, :shared or :per_host may follow",
            );
        }
    }
    if process.memory_bytes.is_some_and(|bytes| bytes < 6 * 1024 * 1024) {
        found.add(&at("memory"), "is below 6Mi, the least that Docker takes", "write it as in 512Mi");
    }
    if process.cpu_milli == Some(0) {
        found.add(&at("cpus"), "is 0", "write it as in 0.5");
    }
}

fn check_database(database: &DatabaseSpec, found: &mut Problems) {
    if !is_variable(&database.url_from) {
        found.add(
            "database.postgres.url_from",
            "is not a valid name of a variable",
            "name the variable in .env, as in DATABASE_URL",
        );
    }
    if let Some(path) = &database.migrations
        && (!path.starts_with('/') || path.split('/').any(|part| part == ".."))
    {
        found.add(
            "database.migrations.path",
            &format!("{path:?} is not a path in the image"),
            "begin it with a slash, as in /migrations",
        );
    }
    if let Some(snapshot) = &database.snapshot {
        if !snapshot.directory.starts_with('/') || snapshot.directory.split('/').any(|part| part == "..") {
            found.add(
                "database.snapshot.directory",
                "is not an absolute path",
                "write it as in /var/backups/notes",
            );
        }
        if snapshot.keep == 0 {
            found.add("database.snapshot.keep", "is 0", "keep at least 1");
        }
    }
}

fn check_deploy(spec: &EnvironmentSpec, found: &mut Problems) {
    let deploy = &spec.deploy;
    if deploy.lock_timeout > LOCK_TIMEOUT_MAX || deploy.lock_timeout.0 == 0 {
        found.add(
            "deploy.lock_timeout",
            &format!("is {}", deploy.lock_timeout),
            "write more than 0, and at most 30m",
        );
    }
    if Millis(deploy.bake.0.saturating_add(deploy.drain.0)) >= deploy.lock_timeout {
        found.add(
            "deploy.bake",
            "together with drain takes longer than lock_timeout",
            "shorten bake and drain",
        );
    }
    if deploy.parallel == Some(0) {
        found.add("deploy.parallel", "is 0", "write at least 1, or omit it to deploy to all hosts at once");
    }
    if deploy.quorum == Some(0) {
        found.add("deploy.quorum", "is 0", "write at least 1, or omit it to need every app host");
    }
    if deploy.quorum.is_some_and(|quorum| usize::from(quorum) > spec.hosts.app.len().max(1)) {
        found.add("deploy.quorum", "is more than there are app hosts", "omit it to need every app host");
    }
}

fn check_hosts(spec: &EnvironmentSpec, found: &mut Problems) {
    let hosts = &spec.hosts;
    let any = !(hosts.app.is_empty() && hosts.lb.is_empty() && hosts.db.is_empty());
    if any && hosts.app.is_empty() {
        found.add(
            "hosts.app",
            "is empty",
            "name the hosts that run containers, or omit `hosts` if there is only one host",
        );
    }
    if any && hosts.lb.is_empty() {
        found.add("hosts.lb", "is empty", "name the host whose nginx serves the site");
    }
    for (role, names) in [("hosts.lb", &hosts.lb), ("hosts.db", &hosts.db)] {
        if names.len() > 1 {
            found.add(role, "names several hosts, which comes with a later release of Lockstep", "name one");
        }
    }
    let twice = |(index, name)| hosts.app[..index].contains(name).then_some(name);
    if let Some(name) = hosts.app.iter().enumerate().find_map(twice) {
        found.add("hosts.app", &format!("names {name} twice"), "name each host once");
    }
    if hosts.app.len() > 1 {
        check_volumes_of_several(spec, found);
    }
}

/// What one app host writes another does not see: that this is meant has to be said.
fn check_volumes_of_several(spec: &EnvironmentSpec, found: &mut Problems) {
    for (name, process) in &spec.processes {
        for (index, volume) in process.volumes.iter().enumerate() {
            if volume.scope == VolumeScope::NotSaid && !volume.target.contains(':') {
                let access = match volume.access {
                    VolumeAccess::ReadWrite => "",
                    VolumeAccess::ReadOnly => "ro,",
                };
                found.add(
                    &format!("processes.{name}.volumes[{index}]"),
                    &format!("{} is a volume of one host, and hosts.app names several", volume.source),
                    &format!(
                        "write {0}:{1}:{access}shared if all hosts see the same files, or {0}:{1}:{access}per_host if each host has its own",
                        volume.source, volume.target
                    ),
                );
            }
        }
    }
}

/// What POSIX calls a name: letters, digits and underscores, no digit first.
pub fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use serde_json::{Value, from_value, json};

    /// A declaration that is right, and has everything that is looked at.
    fn declared() -> Value {
        json!({
            "key": "notes/production", "description": null, "url": "https://notes.example", "branch": null,
            "mode": "production", "image": { "repository": "registry.example:5000/notes" },
            "processes": { "web": {
                "role": "web", "command": [], "port": 8080,
                "health": { "path": "/health", "timeout": 1000, "interval": 100, "consecutive": 3 },
                "volumes": [{ "source": "data", "target": "/data", "access": "read_write" }],
                "memory_bytes": 536870912, "cpu_milli": 500, "user": null, "stop_signal": null, "stop_grace": 1000,
                "standby": "run",
            } },
            "database": {
                "url_from": "DATABASE_URL", "migrations": "/migrations",
                "snapshot": { "directory": "/var/backups/notes", "keep": 3 },
            },
            "traffic": {
                "body_limit": "10m", "connect_timeout": 2000, "send_timeout": 60000, "read_timeout": 60000,
                "tls": { "existing": { "certificate": "/etc/tls/notes.pem", "key": "/etc/tls/notes.key" } },
            },
            "networks": [],
            "deploy": {
                "lock_timeout": 1800000, "drain": 1000, "bake": 1000, "parallel": 1, "quorum": 1,
                "log_directory": null, "state_file": null,
            },
            "env": { "LOG_LEVEL": "info" }, "required": [], "public": [],
            "hosts": { "app": ["app-1"], "lb": ["app-1"], "db": ["app-1"] },
        })
    }

    /// Where something is wrong with the declaration in which `value` stands at `pointer`.
    fn wrong(pointer: &str, value: Value) -> Vec<String> {
        let mut declared = declared();
        *declared.pointer_mut(pointer).unwrap() = value;
        let problems = check_declared(from_value(declared).unwrap()).err().unwrap_or_default();
        problems.into_iter().map(|problem| problem.path).collect()
    }

    fn refuse(pointer: &str, values: Vec<Value>, path: &str) {
        for value in values {
            assert_eq!(wrong(pointer, value.clone()), [path], "{pointer}: {value}");
        }
    }

    #[test]
    fn what_is_right_is_accepted() {
        assert_eq!(wrong("/env", json!({ "_A1": "b" })), [""; 0]);
        assert_eq!(wrong("/traffic/connect_timeout", json!(75_000)), [""; 0]);
        assert_eq!(wrong("/traffic/tls/existing/key", json!("/etc/tls/a_b@c+d-e.key")), [""; 0]);
        assert_eq!(wrong("/processes/web/volumes/0/source", json!("/srv/data")), [""; 0]);
    }

    #[test]
    fn what_nginx_would_misread_is_refused() {
        let urls = ["https://notes.example/path", "https://a b", "https://a;b", "https://a:0", "https://"];
        refuse("/url", urls.map(Value::from).to_vec(), "url");
        refuse("/url", vec![json!("http://notes.example")], "traffic.tls");
        assert_eq!(wrong("/url", json!("gopher://notes.example")), ["url", "traffic.tls"]);
        let sizes = ["", "m", "10mm", "10x", "1;", "10m; x"];
        refuse("/traffic/body_limit", sizes.map(Value::from).to_vec(), "traffic.body_limit");
        refuse("/traffic/connect_timeout", vec![json!(0), json!(75_001)], "traffic.connect_timeout");
        refuse("/traffic/send_timeout", vec![json!(0), json!(86_400_001)], "traffic.send_timeout");
        refuse("/traffic/read_timeout", vec![json!(0), json!(86_400_001)], "traffic.read_timeout");
        let files = ["", "relative", "/a b", "/a;b", "/a\"b", "/a$b", "/a\nb"].map(Value::from).to_vec();
        refuse("/traffic/tls/existing/certificate", files.clone(), "traffic.certificate");
        refuse("/traffic/tls/existing/key", files, "traffic.key");
        let paths = ["", "health", "/a b", "/a\"b", "/a\nb", "/a\rb"];
        refuse("/processes/web/health/path", paths.map(Value::from).to_vec(), "processes.web.health.path");
    }

    #[test]
    fn a_path_that_no_request_can_have_is_refused() {
        let paths =
            ["/ä", "/a\tb", "/a\u{7f}", "/a\0", "/^", "/<", "/>", "/{", "/}", "/|", "/\\", "/`", "/a#b"];
        refuse("/processes/web/health/path", paths.map(Value::from).to_vec(), "processes.web.health.path");
        for path in ["/", "/health?full=1&x=[2]", "/a%20b/~c;d=e,f:@!$'()*+"] {
            assert_eq!(wrong("/processes/web/health/path", json!(path)), [""; 0], "{path}");
        }
    }

    #[test]
    fn what_docker_would_misread_is_refused() {
        refuse("/processes", vec![json!({})], "processes");
        refuse("/processes/web/role", vec![json!("worker")], "processes");
        refuse("/processes/web/port", vec![json!(null), json!(0)], "processes.web.port");
        refuse("/processes/web/standby", vec![json!("pause"), json!("stop")], "processes.web.standby");
        refuse("/processes/web/health/consecutive", vec![json!(0)], "processes.web.health.consecutive");
        refuse("/processes/web/health/interval", vec![json!(9)], "processes.web.health.interval");
        let sources = ["", "../etc", "/srv/../etc"].map(Value::from).to_vec();
        refuse("/processes/web/volumes/0/source", sources, "processes.web.volumes[0]");
        let targets = ["", "data", "/data:ro"].map(Value::from).to_vec();
        refuse("/processes/web/volumes/0/target", targets, "processes.web.volumes[0]");
        refuse(
            "/processes/web/memory_bytes",
            vec![json!(0), json!(6 * 1024 * 1024 - 1)],
            "processes.web.memory",
        );
        refuse("/processes/web/memory_bytes", vec![json!(u64::MAX)], "processes.web.memory");
        let cpus = vec![json!(0), json!(9), json!(8_192_001), json!(u64::MAX)];
        refuse("/processes/web/cpu_milli", cpus, "processes.web.cpus");
        refuse("/processes/web/command", vec![json!([""]), json!(["a", "b\0c"])], "processes.web.command");
        refuse("/processes/web/user", vec![json!("a b"), json!("a\0")], "processes.web.user");
        refuse("/env", vec![json!({ "A": "b\0c" }), json!({ "A": "b".repeat(64 * 1024) })], "env.A");
        refuse("/env", vec![json!({ "1A": "b" })], "env.1A");
        refuse("/env", vec![json!({ "A=B": "c" })], "env.A=B");
        let tagged =
            ["notes:1", "registry.example:5000/notes:1", "notes@sha256:00"].map(Value::from).to_vec();
        refuse("/image/repository", tagged, "image");
    }

    #[test]
    fn a_volume_that_docker_could_not_mount_is_refused() {
        let long = "a".repeat(190);
        let sources = ["./data", "data/x", "da ta", "dätä", "a:b", "/a:b", "/a\0", &long];
        refuse(
            "/processes/web/volumes/0/source",
            sources.map(Value::from).to_vec(),
            "processes.web.volumes[0]",
        );
        let targets = [
            "/",
            "//",
            "/a//b",
            "/a/../b",
            "/..",
            "/a/./b",
            "/a\0",
            "/run/lockstep",
            "/run/lockstep/",
            "/run/lockstep/x",
            "/proc",
            "/proc/sys",
        ];
        refuse(
            "/processes/web/volumes/0/target",
            targets.map(Value::from).to_vec(),
            "processes.web.volumes[0]",
        );
        for target in ["/run/lockstep-data", "/data/", "/a..b/.c"] {
            assert_eq!(wrong("/processes/web/volumes/0/target", json!(target)), [""; 0], "{target}");
        }
        for source in ["d", "_data", "-.data", &"a".repeat(189)] {
            assert_eq!(wrong("/processes/web/volumes/0/source", json!(source)), [""; 0], "{source}");
        }
        let volume = |target: &str| json!({ "source": "data", "target": target, "access": "read_only" });
        let twice = vec![json!([volume("/data"), volume("/data/")])];
        refuse("/processes/web/volumes", twice, "processes.web.volumes[1]");
        let nested = json!([volume("/data"), volume("/data/cache")]);
        assert_eq!(wrong("/processes/web/volumes", nested), [""; 0]);
    }

    #[test]
    fn a_signal_that_docker_does_not_know_is_refused() {
        let signals =
            ["SIGNOPE", "0", "65", "-1", " 15", "SIG", "SIGRTMIN+16", "SIGRTMIN+0", "RTMAX-15", "TERM "];
        let signals = signals.map(Value::from).to_vec();
        refuse("/processes/web/stop_signal", signals, "processes.web.stop_signal");
        for signal in ["SIGTERM", "term", "QUIT", "1", "64", "SIGRTMIN", "SIGRTMIN+3", "rtmax-14"] {
            assert_eq!(wrong("/processes/web/stop_signal", json!(signal)), [""; 0], "{signal}");
        }
    }

    #[test]
    fn a_declaration_too_large_to_be_stored_is_refused() {
        let web = declared()["processes"]["web"].clone();
        let mut worker = web.clone();
        worker["role"] = json!("worker");
        let processes = |count: usize| {
            let workers = (1..count).map(|number| (format!("worker-{number}"), worker.clone()));
            Value::Object(workers.chain([("web".into(), web.clone())]).collect())
        };
        assert_eq!(wrong("/processes", processes(PROCESSES_MAX)), [""; 0]);
        refuse("/processes", vec![processes(PROCESSES_MAX + 1)], "processes");
        let env = |count: usize| {
            let all = (0..count).map(|number| (format!("A{number}"), json!("b".repeat(60 * 1024))));
            Value::Object(all.collect())
        };
        assert_eq!(wrong("/env", env(4)), [""; 0]);
        refuse("/env", vec![env(5)], "environments.production");
    }

    /// It was deployed by an earlier version, and can be rolled back and be removed.
    #[test]
    fn what_is_recorded_may_break_a_rule_of_declarations() {
        let mut recorded = declared();
        recorded["processes"]["web"]["stop_signal"] = json!("SIGNOPE");
        recorded["processes"]["web"]["volumes"][0]["target"] = json!("/run/lockstep");
        recorded["processes"]["web"]["health"]["path"] = json!("/^");
        recorded["env"]["A"] = json!("b".repeat(DECLARATION_BYTES_MAX));
        let recorded: EnvironmentSpec = from_value(recorded).unwrap();
        assert!(check(recorded.clone()).is_ok());
        assert_eq!(check_declared(recorded).unwrap_err().len(), 5);
    }

    #[test]
    fn a_path_that_leads_out_of_its_folder_is_refused() {
        let paths = ["", "a", "/a/../b", "/.."].map(Value::from).to_vec();
        refuse("/database/migrations", paths.clone(), "database.migrations.path");
        refuse("/database/snapshot/directory", paths, "database.snapshot.directory");
        refuse("/database/snapshot/keep", vec![json!(0)], "database.snapshot.keep");
        let names = ["", "1A", "A B"].map(Value::from).to_vec();
        refuse("/database/url_from", names, "database.postgres.url_from");
    }

    #[test]
    fn a_deployment_that_could_not_end_is_refused() {
        refuse("/deploy/lock_timeout", vec![json!(1_800_001)], "deploy.lock_timeout");
        assert_eq!(wrong("/deploy/lock_timeout", json!(0)), ["deploy.lock_timeout", "deploy.bake"]);
        refuse("/deploy/bake", vec![json!(1_799_000), json!(u64::MAX)], "deploy.bake");
        refuse("/deploy/parallel", vec![json!(0)], "deploy.parallel");
        refuse("/deploy/quorum", vec![json!(0), json!(2)], "deploy.quorum");
    }

    #[test]
    fn hosts_that_cannot_be_meant_are_refused() {
        let hosts = |app: &[&str], lb: &[&str], db: &[&str]| json!({ "app": app, "lb": lb, "db": db });
        refuse("/hosts", vec![hosts(&[], &["a"], &["a"])], "hosts.app");
        let twice = wrong("/hosts", hosts(&["a", "a"], &["a"], &[]));
        assert_eq!(twice, ["hosts.app", "processes.web.volumes[0]"]);
        refuse("/hosts", vec![hosts(&["a"], &[], &[]), hosts(&["a"], &["a", "b"], &[])], "hosts.lb");
        refuse("/hosts", vec![hosts(&["a"], &["a"], &["a", "b"])], "hosts.db");
        refuse("/hosts", vec![hosts(&["a", "b"], &["a"], &["a"])], "processes.web.volumes[0]");
    }
}
