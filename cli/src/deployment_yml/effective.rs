//! The values of an environment after merging, and where each is set.

use lockstep_core::name::EnvironmentName;
use lockstep_core::spec::EnvironmentSpec;
use lockstep_core::time::Millis;
use serde::Serialize;
use serde_json::Value;

/// A value that a deployment would use.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effective {
    /// The key in the file: `processes.web.health.path`.
    pub key: String,
    pub value: Value,
    pub from: Origin,
}

/// Where a value is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Below `environments`, for this environment alone.
    Environment,
    /// At the top of the file, for every environment.
    File,
    Default,
}

impl Origin {
    /// The place in the file, as an operator would search for it.
    pub fn place(self, environment: &EnvironmentName) -> String {
        match self {
            Self::Environment => format!("environments.{environment}"),
            Self::File => "top level".to_owned(),
            Self::Default => "default".to_owned(),
        }
    }
}

/// Every value of `spec`; `file` is the whole file without types.
pub(super) fn effective(spec: &EnvironmentSpec, file: &Value) -> Vec<Effective> {
    let values = serde_json::to_value(spec).expect("a specification has only text, numbers and lists");
    let mut leaves = Vec::new();
    flatten(&mut Vec::new(), &values, &mut leaves);
    let own = &file["environments"][spec.key.environment.as_str()];
    leaves
        .into_iter()
        .filter_map(|(path, value)| {
            let typed = typed_path(&path)?;
            let (from, value) = match (find(own, &typed), find(file, &typed)) {
                (Some(typed), _) => (Origin::Environment, typed.clone()),
                (None, Some(typed)) => (Origin::File, typed.clone()),
                (None, None) => (Origin::Default, as_typed(&typed, value)),
            };
            Some(Effective { key: typed.join("."), value, from })
        })
        .collect()
}

/// Lists and plain values are leaves; an absent value is none.
fn flatten(path: &mut Vec<String>, value: &Value, leaves: &mut Vec<(Vec<String>, Value)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                path.push(key.clone());
                flatten(path, value, leaves);
                path.pop();
            }
        }
        Value::Null => {}
        Value::Array(list) if list.is_empty() => {}
        Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            leaves.push((path.clone(), value.clone()));
        }
    }
}

/// The key in the file for a value of the specification; `None` if the file has no such key.
fn typed_path(path: &[String]) -> Option<Vec<String>> {
    let keys: Vec<&str> = path.iter().map(String::as_str).collect();
    let typed: Vec<&str> = match keys.as_slice() {
        ["key", ..] => return None,
        ["image", "repository", ..] => vec!["image", "repository"],
        ["image", "build", rest @ ..] => [&["build"], rest].concat(),
        ["database", key @ ("url_from" | "pg_hba")] => vec!["database", "postgres", key],
        ["database", "migrations"] => vec!["database", "migrations", "path"],
        ["traffic", "tls", "existing", file] => vec!["traffic", file],
        [.., "memory_bytes"] => replace_last(&keys, "memory"),
        [.., "cpu_milli"] => replace_last(&keys, "cpus"),
        all => all.to_vec(),
    };
    Some(typed.into_iter().map(ToOwned::to_owned).collect())
}

fn replace_last<'a>(keys: &[&'a str], last: &'a str) -> Vec<&'a str> {
    [&keys[..keys.len() - 1], &[last]].concat()
}

/// The value in the file, also in its short form: `image: notes`, `port: 8080`.
fn find<'a>(typed: &'a Value, path: &[String]) -> Option<&'a Value> {
    let mut value = typed;
    for key in path {
        match value {
            Value::Object(map) => match map.get(key) {
                Some(found) => value = found,
                None => return find_short_form(typed, path),
            },
            Value::String(_) if path[0] == "image" => return Some(value),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return None;
            }
        }
    }
    (!value.is_null()).then_some(value)
}

fn find_short_form<'a>(typed: &'a Value, path: &[String]) -> Option<&'a Value> {
    let keys: Vec<&str> = path.iter().map(String::as_str).collect();
    if keys == ["processes", "web", "port"] { typed.get("port") } else { None }
}

/// A default in the form of the file.
fn as_typed(path: &[String], value: Value) -> Value {
    const LENGTHS: &[&str] = &[
        "timeout",
        "interval",
        "stop_grace",
        "lock_timeout",
        "drain",
        "bake",
        "connect_timeout",
        "send_timeout",
        "read_timeout",
    ];
    match (path.last(), value.as_u64()) {
        (Some(key), Some(ms)) if LENGTHS.contains(&key.as_str()) => Value::String(typed_length(Millis(ms))),
        (Some(_) | None, _) => value,
    }
}

/// A duration in the largest unit that is exact: `30s`, `5m`.
fn typed_length(Millis(ms): Millis) -> String {
    let units = [(60_000, "m"), (1_000, "s")];
    match units.into_iter().find(|(unit, _)| ms > 0 && ms % unit == 0) {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None => format!("{ms}ms"),
    }
}
