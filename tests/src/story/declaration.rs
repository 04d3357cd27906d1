//! What a story changes in the declaration: `spec quorum 2`.

use anyhow::{Context, Result, bail};
use lockstep_core::name::HostName;
use lockstep_core::spec::{HostRoles, PgHba, ProcessSpec, Role, Tls, Volume, VolumeAccess, VolumeScope};
use lockstep_core::time::Millis;

use super::StoryState;
use super::notes::web;

impl StoryState {
    pub(super) fn change_spec(&mut self, words: &[&str]) -> Result<String> {
        match words {
            ["worker"] => {
                let worker = ProcessSpec { role: Role::Worker, port: None, ..web() };
                self.spec.processes.insert("worker".parse()?, worker);
            }
            ["bake", duration] => self.spec.deploy.bake = Millis::parse(duration)?,
            ["drain", duration] => self.spec.deploy.drain = Millis::parse(duration)?,
            ["parallel", hosts] => self.spec.deploy.parallel = Some(hosts.parse()?),
            ["quorum", hosts] => self.spec.deploy.quorum = Some(hosts.parse()?),
            ["lock_timeout", duration] => self.spec.deploy.lock_timeout = Millis::parse(duration)?,
            ["database", "none"] => self.spec.database = None,
            ["database", "on", host] => self.spec.hosts.db = vec![host.parse()?],
            ["pg_hba", "by_hand"] => {
                self.spec.database.as_mut().context("there is no database")?.pg_hba = PgHba::ByHand;
            }
            ["snapshot", "none"] => {
                self.spec.database.as_mut().context("there is no database")?.snapshot = None;
            }
            ["branch", branch] => self.spec.branch = Some((*branch).to_owned()),
            ["require", name] => self.spec.required.push((*name).to_owned()),
            ["host", name] => {
                self.spec.hosts =
                    HostRoles { app: vec![name.parse()?], lb: vec![name.parse()?], db: vec![name.parse()?] };
            }
            ["hosts", app, lb] => {
                let app: Vec<HostName> = app.split(',').map(str::parse).collect::<Result<_, _>>()?;
                self.spec.hosts = HostRoles { db: vec![app[0].clone()], app, lb: vec![lb.parse()?] };
            }
            ["volume", volume] => {
                let (source, target) = volume.split_once(':').context("volume SOURCE:TARGET")?;
                let volume = Volume {
                    source: source.to_owned(),
                    target: target.to_owned(),
                    access: VolumeAccess::ReadWrite,
                    scope: VolumeScope::NotSaid,
                };
                self.spec.processes.values_mut().for_each(|process| process.volumes.push(volume.clone()));
            }
            ["tls", certificate, key] => {
                self.spec.traffic.tls =
                    Tls::Existing { certificate: (*certificate).to_owned(), key: (*key).to_owned() };
            }
            ["url", url] => self.spec.url = (*url).to_owned(),
            ["connect_timeout", length] => self.spec.traffic.connect_timeout = Millis::parse(length)?,
            ["body_limit", limit] => self.spec.traffic.body_limit = (*limit).to_owned(),
            _ => bail!("{words:?} is not a change of the declaration"),
        }
        Ok(String::new())
    }
}
