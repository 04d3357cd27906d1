//! Releases of the example application, as images that hosts of a fleet have.

use std::thread;

use anyhow::{Result, anyhow};

use super::{Host, Passing};
use crate::bed::server::docker::Docker;

/// Releases of the example: the tag, and how many migrations its image has.
pub type Release = (&'static str, u32);

/// What the example itself brings; the others are made for these tests.
const OWN_MIGRATIONS: u32 = 2;

/// Builds the example's images, and has them on `hosts`.
///
/// # Errors
/// When one is not built, or not taken.
pub fn give_images(passing: &Passing, releases: &[Release], hosts: &[&Host]) -> Result<()> {
    let docker = Docker::check()?;
    let ours = |tag: &str| format!("{}-{tag}", passing.0);
    let base = ours("notes:base");
    docker.build_notes(&base, OWN_MIGRATIONS, &[])?;
    for (tag, schema) in releases {
        if *schema <= OWN_MIGRATIONS {
            docker.build_notes(&ours(tag), *schema, &[])?;
            continue;
        }
        let more: Vec<(String, String)> = (OWN_MIGRATIONS + 1..=*schema).map(migration).collect();
        let more: Vec<(&str, &str)> = more.iter().map(|(name, sql)| (name.as_str(), sql.as_str())).collect();
        docker.build_with_migrations(&ours(tag), &base, &more)?;
    }
    docker.remove_image(&base)?;
    let tags: Vec<String> = releases.iter().map(|(tag, _)| ours(tag)).collect();
    on_all(hosts, |host| {
        host.load_images(&tags)?;
        for (tag, _) in releases {
            host.run(&format!("docker tag {0} {tag} && docker rmi {0}", ours(tag)))?;
        }
        Ok(())
    })?;
    tags.iter().try_for_each(|tag| docker.remove_image(tag))
}

/// Does it on all of them at the same time.
fn on_all(hosts: &[&Host], act: impl Fn(&Host) -> Result<()> + Sync) -> Result<()> {
    let act = &act;
    thread::scope(|scope| {
        let acts: Vec<_> = hosts.iter().map(|host| scope.spawn(move || act(host))).collect();
        acts.into_iter()
            .try_for_each(|act| act.join().unwrap_or_else(|_| Err(anyhow!("bug: the test panicked"))))
    })
}

fn migration(number: u32) -> (String, String) {
    let sql = format!("CREATE TABLE added_{number} (id bigint PRIMARY KEY);\n");
    (format!("{number:06}_add_{number}.up.sql"), sql)
}
