//! The reference of `deployment.yml`, made from its JSON Schema: a page for `docs/` and the manual page
//! `deployment.yml(5)`.
//!
//! What must stay true: every text about a key comes from the schema, and so from the comments in `typed.rs`, which
//! explains their form.

use std::fmt::Write;

use clap_mangen::roff::{Inline, Roff, bold, roman};
use serde_json::{Map, Value};

/// The keys below one key, in the order of the alphabet.
#[derive(Debug)]
struct Section {
    /// `processes.NAME.health`; empty at the top.
    path: Vec<String>,
    keys: Vec<Key>,
}

/// One key, as both forms of the reference show it.
#[derive(Debug)]
struct Key {
    path: Vec<String>,
    form: String,
    default: KeyDefault,
    /// As it would be typed, from the top of the file.
    example: String,
    meaning: String,
    support: Support,
}

/// What applies if a key is not given.
#[derive(Debug)]
enum KeyDefault {
    Required,
    /// As it would be typed.
    Value(String),
    Described(String),
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Support {
    Used,
    /// Known, and refused with a message.
    Refused,
}

/// The placeholder for a name that the file itself chooses.
const NAME: &str = "NAME";

/// The beginning of the reference, in both forms.
const INTRODUCTION: &[&str] = &[
    "deployment.yml declares an application: its image, its processes, and the environments in which it runs. \
     The command line looks for it in the current directory, then in deploy/.",
    "Every key of the top level except app and environments may also be given in an environment, where it takes \
     precedence. The maps processes and env are merged; everything else is replaced.",
    "A duration is a whole number with ms, s, m, h or d. Unknown keys are refused, with their line and the nearest key.",
    "lockstep env check ENV checks the file. lockstep env show ENV --effective prints every value and where it is set.",
];

/// The smallest file that can be deployed.
const SMALLEST: &str =
    "app: notes\nimage: notes\nport: 8080\nenvironments: { production: { url: http://notes.example } }\n";

/// The page for `docs/`.
pub fn markdown() -> String {
    let sections = sections(&super::schema());
    let mut text = String::from("# deployment.yml\n\n");
    text.push_str("<!-- Made from the JSON Schema by `make manual`; the text is in cli/src/deployment_yml/typed.rs. -->\n\n");
    for paragraph in INTRODUCTION {
        push(&mut text, format_args!("{paragraph}\n\n"));
    }
    push(&mut text, format_args!("Four lines are enough:\n\n```yaml\n{SMALLEST}```\n"));
    for section in &sections {
        push(&mut text, format_args!("\n## {}\n", section.title()));
        for key in section.used() {
            push(
                &mut text,
                format_args!(
                    "\n### `{}`\n\n{} · {}\n\n{}\n\n```yaml\n{}\n```\n",
                    key.path.join("."),
                    key.form,
                    key.default.words(),
                    key.meaning,
                    key.example
                ),
            );
        }
    }
    text.push_str("\n## Refused\n\nThese keys and values are known, and refused with a message.\n\n");
    for refused in refused(&sections) {
        push(&mut text, format_args!("- `{refused}`\n"));
    }
    text
}

/// The manual page `deployment.yml(5)`.
pub fn manual() -> String {
    let sections = sections(&super::schema());
    let mut page = Roff::new();
    page.control("TH", ["deployment.yml", "5"]);
    page.control("SH", ["NAME"]);
    page.text([roman("deployment.yml - what Lockstep deploys, and where")]);
    page.control("SH", ["DESCRIPTION"]);
    for (at, paragraph) in INTRODUCTION.iter().enumerate() {
        if at > 0 {
            page.control("PP", []);
        }
        page.text([roman(*paragraph)]);
    }
    for section in &sections {
        page.control("SH", [section.title().to_uppercase().as_str()]);
        for key in section.used() {
            page.control("TP", []);
            page.text([bold(key.path.join(".")), roman(format!(" ({}; {})", key.form, key.default.words()))]);
            page.text([roman(key.meaning.replace('`', ""))]);
            page.control("RS", []);
            page.control("nf", []);
            page.text(key.example.lines().map(|line| roman(line.to_owned())).collect::<Vec<Inline>>());
            page.control("fi", []);
            page.control("RE", []);
        }
    }
    page.control("SH", ["REFUSED"]);
    page.text([roman("These keys and values are known, and refused with a message:")]);
    for refused in refused(&sections) {
        page.control("PP", []);
        page.text([roman(refused)]);
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("lockstep"), roman("(1)")]);
    page.render()
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a text takes whatever is written to it");
}

impl Section {
    fn title(&self) -> String {
        if self.path.is_empty() { "Top level".to_owned() } else { self.path.join(".") }
    }

    fn used(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|key| key.support == Support::Used)
    }
}

impl KeyDefault {
    fn words(&self) -> String {
        match self {
            Self::Required => "required".to_owned(),
            Self::Value(value) => format!("default: {value}"),
            Self::Described(words) => format!("default: {words}"),
            Self::None => "optional".to_owned(),
        }
    }
}

/// Every part of the file, each before what is below it.
fn sections(schema: &Value) -> Vec<Section> {
    let mut found = Vec::new();
    let reader = Reader { definitions: schema["$defs"].as_object().cloned().unwrap_or_default() };
    reader.section(&[], schema, &mut found);
    found
}

/// Keys and values that are refused, as in `traffic.tls: acme`.
fn refused(sections: &[Section]) -> Vec<String> {
    let keys = sections.iter().flat_map(|section| &section.keys);
    let keys = keys.filter(|key| key.support == Support::Refused).map(|key| key.path.join("."));
    let reader = Reader { definitions: super::schema()["$defs"].as_object().cloned().unwrap_or_default() };
    let values = sections.iter().flat_map(|section| &section.keys).flat_map(|key| {
        let choices = reader.choices_at(&key.path, Support::Refused);
        choices.into_iter().map(|choice| format!("{}: {choice}", key.path.join("."))).collect::<Vec<String>>()
    });
    keys.chain(values).collect()
}

/// Reads a schema with its definitions.
struct Reader {
    definitions: Map<String, Value>,
}

impl Reader {
    fn section(&self, path: &[String], schema: &Value, found: &mut Vec<Section>) {
        let Some(properties) = schema["properties"].as_object() else { return };
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let at = found.len();
        found.push(Section { path: path.to_vec(), keys: Vec::new() });
        let mut keys = Vec::new();
        for (name, property) in properties {
            let own = [path, std::slice::from_ref(name)].concat();
            let mut key = self.key(own.clone(), property);
            if required.contains(&name.as_str()) {
                key.default = KeyDefault::Required;
            }
            if key.support == Support::Used && own != ["environments"] {
                for (below, schema) in self.below(&own, property) {
                    self.section(&below, schema, found);
                }
            }
            keys.push(key);
        }
        found[at].keys = keys;
    }

    fn key(&self, path: Vec<String>, property: &Value) -> Key {
        let default = match (&property["default"], property["x-default"].as_str()) {
            (_, Some(words)) => KeyDefault::Described(words.to_owned()),
            (Value::Null, None) => KeyDefault::None,
            (value @ (Value::Bool(_) | Value::Number(_) | Value::String(_)), None)
            | (value @ (Value::Array(_) | Value::Object(_)), None) => match flow(value).as_str() {
                "{}" | "[]" => KeyDefault::None,
                typed => KeyDefault::Value(format!("`{typed}`")),
            },
        };
        let support = match property["x-refused"].as_bool() {
            Some(true) => Support::Refused,
            Some(false) | None => Support::Used,
        };
        Key {
            form: property["x-type"].as_str().map_or_else(|| self.form(property), ToOwned::to_owned),
            default,
            example: example(&path, &property["examples"][0]),
            meaning: property["description"].as_str().unwrap_or_default().replace('\n', " "),
            support,
            path,
        }
    }

    /// The schema itself, where `schema` refers to another or also allows null.
    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.trim_start_matches("#/$defs/");
            return self.definitions.get(name).map_or(schema, |definition| self.resolved(definition));
        }
        match schema["anyOf"].as_array() {
            Some(any) if any.len() == 2 && any[1]["type"] == "null" => self.resolved(&any[0]),
            Some(_) | None => schema,
        }
    }

    /// The parts below a key, with the path under which their keys stand.
    fn below<'a>(&'a self, path: &[String], property: &'a Value) -> Vec<(Vec<String>, &'a Value)> {
        let resolved = self.resolved(property);
        if let Some(any) = resolved["anyOf"].as_array() {
            return any.iter().map(|one| (path.to_vec(), self.resolved(one))).collect();
        }
        match &resolved["additionalProperties"] {
            Value::Object(values) => {
                let values = Value::Object(values.clone());
                let name = values["$ref"].as_str().map(|name| name.trim_start_matches("#/$defs/").to_owned());
                let schema = name.and_then(|name| self.definitions.get(&name));
                let below = [path, &[NAME.to_owned()]].concat();
                schema.map(|schema| (below, schema)).into_iter().collect()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                vec![(path.to_vec(), resolved)]
            }
        }
    }

    fn form(&self, property: &Value) -> String {
        let resolved = self.resolved(property);
        let choices = choices(resolved, Support::Used);
        if !choices.is_empty() {
            let quoted: Vec<String> = choices.iter().map(|choice| format!("`{choice}`")).collect();
            return quoted.join(" or ");
        }
        if let Some(any) = resolved["anyOf"].as_array() {
            let forms: Vec<String> = any.iter().map(|one| self.form(one)).collect();
            return forms.join(" or ");
        }
        let name = match &resolved["type"] {
            Value::Array(several) => several.iter().filter_map(Value::as_str).find(|name| *name != "null"),
            single @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Object(_)) => single.as_str(),
        };
        match name {
            Some("array") => format!("list of {}", self.form(&resolved["items"])),
            Some("object") => "map".to_owned(),
            Some("string") => "text".to_owned(),
            Some(other) => other.to_owned(),
            None => "value".to_owned(),
        }
    }

    /// The values of the key at `path` that are used, or refused.
    fn choices_at(&self, path: &[String], support: Support) -> Vec<String> {
        let mut at = super::schema();
        for key in path {
            let resolved = self.resolved(&at).clone();
            at = match key.as_str() {
                NAME => resolved["additionalProperties"].clone(),
                key => resolved["properties"][key].clone(),
            };
        }
        choices(self.resolved(&at), support)
    }
}

/// The values that a schema lists.
fn choices(schema: &Value, wanted: Support) -> Vec<String> {
    let groups = schema["oneOf"].as_array().cloned().unwrap_or_else(|| vec![schema.clone()]);
    let mut found = Vec::new();
    for group in groups {
        let support = if group["x-refused"] == true { Support::Refused } else { Support::Used };
        if support == wanted {
            let listed = group["enum"].as_array().cloned().unwrap_or_default();
            let single = group.get("const").cloned();
            found.extend(
                listed.into_iter().chain(single).filter_map(|value| value.as_str().map(ToOwned::to_owned)),
            );
        }
    }
    found
}

/// `value` at `path`, as it would be typed: `deploy: { bake: 30s }`.
fn example(path: &[String], value: &Value) -> String {
    // What the one web process has by itself is shown of a worker.
    let is_of_worker = path.last().is_some_and(|last| matches!(last.as_str(), "command" | "role"));
    let name = if is_of_worker { "worker" } else { "web" };
    let mut typed = flow(value);
    for (depth, key) in path.iter().enumerate().rev() {
        let key = if key == NAME { name } else { key };
        typed = if depth == 0 { format!("{key}: {typed}") } else { format!("{{ {key}: {typed} }}") };
    }
    typed
}

/// A value in YAML's flow style.
fn flow(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => scalar(text),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => {
            let items: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}: {}", flow(value))).collect();
            format!("{{ {} }}", items.join(", "))
        }
    }
}

/// A text, quoted where YAML would take it for something else.
fn scalar(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
    let is_url = text.starts_with("http://") || text.starts_with("https://");
    let is_text = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '.')
        || text.ends_with(|c: char| c.is_ascii_alphabetic());
    match is_text && !text.is_empty() && (text.chars().all(is_plain) || is_url) {
        true => text.to_owned(),
        false => Value::String(text.to_owned()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use lockstep_core::time::Millis;

    use super::super::{Origin, Project};
    use super::*;

    /// What a file has in which every key but those that exclude each other may stand.
    const AROUND: &str = "{
        \"app\": \"notes\", \"image\": \"notes\",
        \"processes\": { \"web\": { \"port\": 8080 } },
        \"database\": { \"postgres\": {}, \"snapshot\": { \"directory\": \"/var/backups/notes\" } },
        \"traffic\": { \"tls\": \"existing\", \"certificate\": \"/a.pem\", \"key\": \"/a.key\" },
        \"url\": \"https://notes.example\",
        \"hosts\": { \"app\": [\"app-1\", \"app-2\", \"app-3\"], \"lb\": [\"edge-1\"] },
        \"environments\": { \"production\": {} }
    }";

    fn read(text: &str) -> Project {
        Project::read(PathBuf::from("deployment.yml"), text)
            .unwrap_or_else(|error| panic!("{error:?}: {text}"))
    }

    fn keys() -> Vec<Key> {
        let sections = sections(&super::super::schema());
        sections
            .into_iter()
            .flat_map(|section| section.keys)
            .filter(|key| key.support == Support::Used)
            .collect()
    }

    fn merge(into: &mut Value, from: Value) {
        match (into, from) {
            (Value::Object(into), Value::Object(from)) => {
                for (key, value) in from {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
            (into, from) => *into = from,
        }
    }

    fn committed(path: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name(path);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    #[test]
    fn the_committed_page_is_current() {
        let is_current = committed("docs/deployment.yml.md") == markdown();
        assert!(is_current, "docs/deployment.yml.md is not what the schema says: make manual");
    }

    #[test]
    fn the_committed_schema_is_current() {
        let committed: Value =
            serde_json::from_str(&committed("deploy/schema/deployment.schema.json")).unwrap();
        let is_current = committed == super::super::schema();
        assert!(is_current, "deploy/schema/deployment.schema.json is not what typed.rs says: make manual");
    }

    #[test]
    fn the_smallest_file_can_be_deployed() {
        read(SMALLEST).environment("production").unwrap();
    }

    #[test]
    fn every_example_is_taken_by_the_parser_and_the_check() {
        for key in keys() {
            let shown: Value = serde_saphyr::from_str(&key.example)
                .unwrap_or_else(|error| panic!("{}: {error}", key.example));
            let mut file: Value = serde_json::from_str(AROUND).unwrap();
            if key.path[0] == "build" {
                file.as_object_mut().unwrap().remove("image");
            }
            merge(&mut file, shown);
            let project = read(&file.to_string());
            project.environment("production").unwrap_or_else(|error| panic!("{}: {error:?}", key.example));
        }
    }

    /// Every declaration in a document, with the document's path.
    fn declarations() -> Vec<(PathBuf, String)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs");
        let recipes = std::fs::read_dir(root.join("recipes")).unwrap().map(|entry| entry.unwrap().path());
        let pages = ["../README.md", "quickstart.md"].map(|page| root.join(page));
        let mut found = Vec::new();
        for path in recipes.chain(pages) {
            let text = std::fs::read_to_string(&path).unwrap();
            let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
            let whole = blocks.filter(|block| block.lines().any(|line| line.starts_with("app:")));
            found.extend(whole.map(|block| (path.clone(), block.to_owned())));
        }
        found
    }

    #[test]
    fn every_declaration_in_the_documents_can_be_deployed() {
        let declarations = declarations();
        assert!(declarations.len() >= 10, "only {} were found", declarations.len());
        for (path, text) in declarations {
            let project = read(&text);
            for name in project.environments() {
                project.environment(name.as_str()).unwrap_or_else(|error| panic!("{path:?}: {error:?}"));
            }
        }
    }

    #[test]
    fn every_key_has_a_meaning_and_an_example() {
        for key in keys() {
            let name = key.path.join(".");
            assert!(key.meaning.ends_with('.') || key.meaning.ends_with("`."), "{name}: {:?}", key.meaning);
            assert!(!key.example.contains("null"), "{name} has no example");
        }
    }

    #[test]
    fn each_default_is_the_one_that_is_used() {
        let mut file: Value = serde_json::from_str(AROUND).unwrap();
        file["hosts"] = Value::Null;
        let used = read(&file.to_string()).effective("production").unwrap();
        let mut compared = BTreeSet::new();
        for key in keys() {
            let KeyDefault::Value(default) = &key.default else { continue };
            let path = key.path.join(".").replace(NAME, "web");
            let Some(used) = used.iter().find(|used| used.key == path && used.from == Origin::Default) else {
                continue;
            };
            let (default, used) = (default.trim_matches('`'), flow(&used.value));
            // `60s` and `1m` are the same length.
            match Millis::parse(default) {
                Ok(length) => assert_eq!(Millis::parse(&used), Ok(length), "{path}"),
                Err(_) => assert_eq!(used, default, "{path}"),
            }
            compared.insert(path);
        }
        assert!(compared.len() >= 15, "only {compared:?} were compared");
    }

    #[test]
    fn what_is_refused_is_listed_and_not_described() {
        let page = markdown();
        let (described, refused) = page.split_once("## Refused").unwrap();
        for listed in ["- `cron`\n", "- `database.migrations.command`\n", "- `traffic.tls: acme`\n"] {
            assert!(refused.contains(listed), "{listed} is not in: {refused}");
        }
        assert!(!described.contains("`cron`") && !described.contains("acme`"), "{described}");
    }

    #[test]
    fn the_manual_has_every_key_that_the_page_has() {
        let manual = manual();
        for key in keys() {
            let name = key.path.join(".").replace('-', "\\-");
            assert!(manual.contains(&name), "{name} is not in the manual");
        }
        assert!(manual.contains(".TH deployment.yml 5"), "{manual}");
    }
}
