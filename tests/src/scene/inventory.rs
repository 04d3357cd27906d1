//! An inventory of all that a deployment could leave behind, as text: it is taken before and after, and compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::scene::Scene;

/// What exists, by kind and name: `container/ls-…`, `site/…`, `schema`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory(BTreeMap<String, String>);

impl Inventory {
    pub fn take(scene: &Scene) -> Result<Self> {
        let mut found = BTreeMap::new();
        containers(scene, &mut found)?;
        images(scene, &mut found)?;
        files("site", &scene.stage.nginx.sites_directory(), &mut found)?;
        let agent = scene.stage.directory.join("agent");
        files("traffic", &agent.join("traffic"), &mut found)?;
        files("slot", &agent.join("slots"), &mut found)?;
        snapshots(&scene.snapshots(), &mut found)?;
        found.insert("schema".to_owned(), schema(scene)?);
        record(scene, &mut found)?;
        Ok(Self(found))
    }

    /// After what was refused: nothing at all has changed.
    pub fn assert_same(&self, after: &Self) -> Result<()> {
        self.assert_alike(after, |_| true)
    }

    /// After what was rolled back: what serves is what served, and nothing else was left. The warm slot may have
    /// given way, the history is longer, and a snapshot may have been taken.
    pub fn assert_live_same(&self, after: &Self) -> Result<()> {
        let live = self.live_slot();
        let counts = |key: &str| match key.split('/').next() {
            Some("history" | "snapshot" | "image") => false,
            // How many requests the last deployment saw.
            Some("traffic") if key.ends_with("/requests.json") => false,
            Some("container" | "slot") => live.as_ref().is_some_and(|live| key.contains(live.as_str())),
            _ => true,
        };
        self.assert_alike(after, counts)?;
        let left: Vec<&String> = after
            .0
            .keys()
            .filter(|key| key.starts_with("container/") && !self.0.contains_key(*key))
            .collect();
        ensure!(left.is_empty(), "it left {left:?}");
        Ok(())
    }

    /// Without what has `text` in its name.
    pub fn without(&self, text: &str) -> Self {
        let mut left = self.clone();
        left.0.retain(|key, _| !key.contains(text));
        left
    }

    fn live_slot(&self) -> Option<String> {
        let live = self.0.get("live")?;
        ["blue", "green"].into_iter().find(|slot| live.contains(&format!("\"{slot}\""))).map(str::to_owned)
    }

    fn assert_alike(&self, after: &Self, counts: impl Fn(&str) -> bool) -> Result<()> {
        let mut differences = Vec::new();
        for key in self.0.keys().chain(after.0.keys().filter(|key| !self.0.contains_key(*key))) {
            let (was, is) = (self.0.get(key), after.0.get(key));
            if was != is && counts(key) {
                differences.push(format!("{key}\n  was {was:?}\n  is  {is:?}"));
            }
        }
        ensure!(differences.is_empty(), "it is not as it was:\n{}", differences.join("\n"));
        Ok(())
    }
}

/// Also those that were made and never started, as for a look into an image.
fn containers(scene: &Scene, found: &mut BTreeMap<String, String>) -> Result<()> {
    let format = "{{.Names}}\t{{.ID}} {{.State}}\t{{.Image}} {{.Labels}}";
    for line in scene.stage.docker.docker(["ps", "--all", "--no-trunc", "--format", format])?.lines() {
        let mut columns = line.split('\t');
        let (Some(name), Some(state), Some(labels)) = (columns.next(), columns.next(), columns.next()) else {
            continue;
        };
        if name.contains(&scene.stage.application) || labels.contains(&scene.stage.application) {
            found.insert(format!("container/{name}"), state.to_owned());
        }
    }
    Ok(())
}

fn images(scene: &Scene, found: &mut BTreeMap<String, String>) -> Result<()> {
    let format = "{{.Repository}}:{{.Tag}}\t{{.ID}}";
    for line in scene.stage.docker.docker(["images", "--no-trunc", "--format", format])?.lines() {
        let (tag, id) = line.split_once('\t').unwrap_or((line, ""));
        if tag.contains(&scene.stage.application) {
            found.insert(format!("image/{tag}"), id.to_owned());
        }
    }
    Ok(())
}

fn files(kind: &str, folder: &Path, found: &mut BTreeMap<String, String>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        let name = format!("{kind}/{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            files(&name, &path, found)?;
        } else {
            found.insert(name, fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

fn snapshots(folder: &Path, found: &mut BTreeMap<String, String>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries {
        found.insert(format!("snapshot/{}", entry?.file_name().to_string_lossy()), String::new());
    }
    Ok(())
}

/// What was applied, and every table that is there.
fn schema(scene: &Scene) -> Result<String> {
    let tables =
        "SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_tables WHERE schemaname = 'public'";
    let tables = scene.stage.postgres.psql(tables)?;
    let versions = match tables.contains("schema_migrations") {
        true => scene.stage.postgres.psql("SELECT version, dirty FROM schema_migrations")?,
        false => "none".to_owned(),
    };
    Ok(format!("{versions}: {tables}"))
}

fn record(scene: &Scene, found: &mut BTreeMap<String, String>) -> Result<()> {
    let environments = scene.stage.json(&["env", "list"])?;
    if !environments.to_string().contains(&scene.stage.application) {
        return Ok(());
    }
    let status = scene.status()?;
    found.insert("live".to_owned(), serde_json::to_string(&status.live)?);
    found.insert("open".to_owned(), serde_json::to_string(&status.open)?);
    found.insert("drift".to_owned(), status.drift.join("; "));
    for summary in scene.history()? {
        found.insert(format!("history/{}", summary.id), serde_json::to_string(&summary.verdict)?);
    }
    Ok(())
}
