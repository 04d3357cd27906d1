//! Keys, tokens and identities.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use lockstep_core::view::environment::EnvironmentStatus;
use lockstep_proto::dial;
use lockstep_proto::wire;
use lockstep_proto::wire::control_client::ControlClient;
use tonic::Code;

use super::{refused, unchanged};
use crate::cluster::{Cluster, MINE, PASSWORD, SECRET, declared, deploy};
use crate::party::Party;

/// It is told to a coordinator that joins, and to nobody else that does.
pub(super) fn the_master_key(cluster: &Cluster) -> Result<()> {
    cluster.runtime.block_on(async {
        let mut control = cluster.administrator();
        let request = wire::HostTokenRequest { name: "thief-1".to_owned(), roles: Vec::new() };
        let host = control.create_host_token(request).await?.into_inner().token;
        let request = wire::AddOperatorRequest {
            name: "thief".to_owned(),
            environments: MINE.to_owned(),
            role: "admin".to_owned(),
        };
        let operator = control.add_operator(request).await?.into_inner().token;
        for token in [host, operator] {
            let joined = dial::join(&cluster.address, &token, "thief-1", "127.0.0.1").await?;
            ensure!(joined.secrets_key.expose().is_empty(), "{} has the key of the secrets", joined.identity);
        }
        Ok(())
    })
}

/// Whoever has a copy of the store, or of a backup, has no secret.
pub(super) fn values_are_encrypted(cluster: &Cluster) -> Result<()> {
    unchanged(cluster, async {
        let record = cluster.record.read().await?;
        let passphrase = "correct horse battery staple".to_owned();
        let mut parts =
            cluster.administrator().backup(wire::BackupRequest { passphrase }).await?.into_inner();
        let mut backup = Vec::new();
        while let Some(part) = parts.message().await? {
            backup.extend(part.bytes);
        }
        ensure!(backup.len() > 1000, "the backup has {} bytes", backup.len());
        for secret in [SECRET, PASSWORD, &cluster.secrets_key()?] {
            ensure!(!record.has_value(secret), "the record has it in clear");
            ensure!(
                !backup.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()),
                "so has the backup"
            );
        }
        ensure!(record.has_value("puller"), "nothing of the kind would be found");
        Ok(())
    })
}

pub(super) fn tokens(cluster: &Cluster) -> Result<()> {
    cluster.runtime.block_on(async {
        let request = wire::HostTokenRequest { name: "once-1".to_owned(), roles: Vec::new() };
        let token = cluster.administrator().create_host_token(request).await?.into_inner().token;
        // Its id is known, its secret is guessed: it waits on.
        let (known, _) = token.rsplit_once('.').context("a token without a secret")?;
        let join =
            |token: String| async move { dial::join(&cluster.address, &token, "once-1", "127.0.0.1").await };
        let before = cluster.record.read().await?;
        let guessed = join(format!("{known}.{}", "A".repeat(26))).await.err().context("a guess is good")?;
        ensure!(guessed.to_string().contains("token"), "{guessed}");
        before.assert_unchanged(&cluster.record.read().await?)?;
        join(token.clone()).await?;
        // It was used.
        let before = cluster.record.read().await?;
        let again = join(token).await.err().context("the token is good twice")?;
        ensure!(again.to_string().contains("used"), "{again}");
        before.assert_unchanged(&cluster.record.read().await?)
    })
}

/// A renewal gives the same identity, whatever else is asked for.
pub(super) fn renewal(cluster: &Cluster) -> Result<()> {
    cluster.runtime.block_on(async {
        let before = cluster.record.read().await?;
        let renewed = dial::renew(&cluster.address, &cluster.mine.credential).await?;
        let channel = dial::connect(&cluster.address, &renewed).await?;
        let answer = ControlClient::new(channel).about(wire::ListRequest {}).await;
        let agent = format!("agent {}", cluster.mine.id);
        let Err(status) = &answer else { bail!("a host is an operator: {answer:?}") };
        ensure!(status.code() == Code::PermissionDenied && status.message().contains(&agent), "{status:?}");
        before.assert_unchanged(&cluster.record.read().await?)
    })
}

/// A token allows what it says, in its environment too.
pub(super) fn limits_of_a_token(cluster: &Cluster) -> Result<()> {
    const NAME: &str = "narrow";
    let (mut machine, before) = cluster.runtime.block_on(async {
        let request = wire::MachineTokenRequest {
            name: NAME.to_owned(),
            environment: MINE.to_owned(),
            verbs: vec!["deploy".to_owned()],
            repository: "mine".to_owned(),
            branch: "main".to_owned(),
            life_ms: 3_600_000,
        };
        let token = cluster.administrator().create_machine_token(request).await?.into_inner().token;
        let joined = dial::join(&cluster.address, &token, "", "").await?;
        let machine = ControlClient::new(dial::connect(&cluster.address, &joined.credential).await?);
        anyhow::Ok((machine, cluster.record.read().await?))
    })?;
    cluster.runtime.block_on(async {
        let spec = declared(MINE, &cluster.mine)?;
        let from = |image: &str, branch: &str| {
            let mut start = deploy(&spec, image);
            if let Some(wire::plan_request::What::Deploy(ask)) =
                start.plan.as_mut().and_then(|plan| plan.what.as_mut())
            {
                ask.branch = branch.to_owned();
            }
            start
        };
        let denied = |words| (Code::PermissionDenied, words);
        refused(machine.start(from("other:1", "main")).await, denied("for images of mine"))?;
        refused(machine.start(from("mine:3", "feature")).await, denied("for the branch main"))?;
        let rollback =
            wire::StartRequest { plan: Some(cluster.aim.rollback(MINE)), ..wire::StartRequest::default() };
        refused(machine.start(rollback).await, denied("allows deploy, and not rollback"))?;
        let values = HashMap::from([("TOKEN".to_owned(), "evil".to_owned())]);
        let import = wire::ImportSecretsRequest { environment: MINE.to_owned(), values, replace: true };
        refused(machine.import_secrets(import).await, denied("allows deploy, and not secrets"))?;
        before.assert_unchanged(&cluster.record.read().await?)?;
        let audit = cluster.audit().await?;
        let mine: Vec<_> = audit.iter().filter(|line| line.operator == NAME).collect();
        ensure!(mine.iter().any(|line| line.said.contains("to call Start: ")), "{mine:?}");
        ensure!(mine.iter().any(|line| line.said.contains("to call ImportSecrets: ")), "{mine:?}");
        Ok(())
    })
}

/// Its environment, and no host.
pub(super) fn what_a_machine_sees(cluster: &Cluster) -> Result<()> {
    unchanged(cluster, async {
        let mut machine = cluster.control(Party::Machine).await?;
        let all = machine.status(wire::EnvironmentRef::default()).await?.into_inner();
        ensure!(all.hosts.is_empty(), "it sees {} hosts", all.hosts.len());
        let environments: Vec<EnvironmentStatus> =
            all.environments.iter().map(|one| one.read("environments")).collect::<Result<_, _>>()?;
        let keys: Vec<String> = environments.iter().map(|one| one.key.to_string()).collect();
        ensure!(keys == [MINE], "it sees {keys:?}");
        Ok(())
    })
}
