//! What hosts run beside Lockstep, as an administrator would set it up once: PostgreSQL, nginx, Docker.

use anyhow::{Context, Result};

use super::{Fleet, Host, Kind};

/// The password of the database's user `notes`: the network is as private as this machine.
const DATABASE_PASSWORD: &str = "fleet";

pub(super) fn start(fleet: &Fleet) -> Result<()> {
    fleet.on_all(|host| {
        let units = match host.kind {
            Kind::Coordinator | Kind::Bare | Kind::Fresh => return Ok(()),
            Kind::App => "containerd docker",
            Kind::Lb => "nginx",
            // Migrations are read from the image, on the database's host.
            Kind::LbDb => "nginx postgresql containerd docker",
        };
        host.run(&format!("systemctl enable --quiet --now {units}"))?;
        Ok(())
    })?;
    fleet.of(Kind::LbDb).into_iter().try_for_each(start_database)
}

fn start_database(host: &Host) -> Result<()> {
    let address = host.address;
    host.run(&format!(
        "until pg_isready --quiet; do read -rt 0.1 <> <(:) || true; done
             psql() {{ setpriv --reuid postgres --regid postgres --init-groups -- psql -X --quiet \"$@\"; }}
             cd /
             psql --command \"ALTER SYSTEM SET listen_addresses = 'localhost,{address}'\"
             psql --command \"CREATE ROLE notes LOGIN PASSWORD '{DATABASE_PASSWORD}'\"
             psql --command 'CREATE DATABASE notes OWNER notes'
             # Its own host, which migrates. Whoever else comes has to be let in.
             echo 'host notes notes {address}/32 scram-sha-256' >> /etc/postgresql/*/main/pg_hba.conf
             systemctl restart postgresql"
    ))?;
    Ok(())
}

impl Fleet {
    /// What a machine runs that is everything: PostgreSQL, nginx and Docker.
    ///
    /// # Errors
    /// When one does not start.
    pub fn start_services_of(&self, machine: &Host) -> Result<()> {
        machine.run("systemctl enable --quiet --now nginx postgresql containerd docker")?;
        start_database(machine)
    }

    fn database_host(&self) -> Result<&Host> {
        let has_one = |host: &&Host| matches!(host.kind, Kind::LbDb | Kind::Bare);
        self.hosts.iter().find(has_one).with_context(|| format!("{} has no database", self.name))
    }

    /// As an administrator does it: every host may come to the database.
    ///
    /// # Errors
    /// When PostgreSQL does not take the line.
    pub fn let_everybody_in(&self) -> Result<()> {
        let host = self.database_host()?;
        host.run(
            "echo 'host notes notes samenet scram-sha-256' >> /etc/postgresql/*/main/pg_hba.conf
             systemctl reload postgresql",
        )?;
        Ok(())
    }

    /// How an application reaches the database of the fleet.
    ///
    /// # Errors
    /// When no host has one.
    pub fn database_url(&self) -> Result<String> {
        let host = self.database_host()?;
        Ok(format!("postgres://notes:{DATABASE_PASSWORD}@{}:5432/notes", host.address))
    }
}
