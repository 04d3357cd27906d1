//! What a host says in its session: about steps, environments and secrets that are not its own.

use anyhow::{Result, bail, ensure};
use lockstep_core::health::{Health, InstanceHealth};
use lockstep_core::record::local_rollback::LocalRollback;
use lockstep_core::slot::Slot;
use lockstep_proto::wire;
use lockstep_proto::wire::from_agent::Message as Said;
use lockstep_proto::wire::to_agent::Message as Order;
use lockstep_tests::bed::wait::until;
use lockstep_tests::scene::SOON;

use super::unchanged;
use crate::cluster::{Cluster, MINE, PASSWORD, SECRET, THEIRS};
use crate::host::done;
use crate::party::now;

/// The audit log has one line with this verb about the attacker's host.
async fn audited(cluster: &Cluster, verb: &str) -> Result<()> {
    let audit = cluster.audit().await?;
    let lines: Vec<_> =
        audit.iter().filter(|line| line.verb == verb && line.said.contains(&cluster.mine.id)).collect();
    ensure!(lines.len() == 1, "the audit log has {} lines with {verb}: {lines:?}", lines.len());
    Ok(())
}

pub(super) fn secrets_of_another_environment(cluster: &Cluster) -> Result<()> {
    unchanged(cluster, async {
        // The step that uses them is open on another host.
        let answer = cluster.mine.ask_secrets(THEIRS).await?;
        let Some(wire::secrets::Result::Refused(why)) = &answer.result else { bail!("{answer:?}") };
        ensure!(why.contains("no step or question that is open on this host uses these secrets"), "{why}");
        audited(cluster, "refuse secrets").await?;
        // It is the step that makes the difference.
        let rightful = cluster.theirs.ask_secrets(THEIRS).await?;
        let Some(wire::secrets::Result::Variables(values)) = rightful.result else { bail!("{rightful:?}") };
        ensure!(values.values.get("TOKEN").is_some_and(|value| value == SECRET));
        Ok(())
    })
}

pub(super) fn secrets_that_no_open_step_uses(cluster: &Cluster) -> Result<()> {
    unchanged(cluster, async {
        let answer = cluster.mine.ask_secrets(MINE).await?;
        ensure!(matches!(answer.result, Some(wire::secrets::Result::Refused(_))), "{answer:?}");
        Ok(())
    })
}

pub(super) fn registry_logins(cluster: &Cluster) -> Result<()> {
    unchanged(cluster, async {
        let wanted = wire::LoginWanted { request: 7, registry: "registry.example".to_owned() };
        let answer = cluster.mine.ask(Said::LoginWanted(wanted)).await?;
        let Order::Login(wire::RegistryLogin { result, .. }) = &answer else { bail!("{answer:?}") };
        let Some(wire::registry_login::Result::Refused(why)) = result else { bail!("{answer:?}") };
        ensure!(why.contains("uses an image of registry.example") && !why.contains(PASSWORD), "{why}");
        audited(cluster, "refuse registry login").await
    })
}

pub(super) fn reports_of_another_host(cluster: &Cluster) -> Result<()> {
    unchanged(cluster, async {
        let wire::Assign { token, key, environment, .. } = cluster.theirs.held().await?;
        let report = wire::Report { token, key, environment, outcome: Some(done()) };
        cluster.mine.say_and_settle(Said::Report(report)).await?;
        audited(cluster, "refuse report").await
    })
}

/// A report that was accepted once is not accepted again: no deployment waits for it any more.
pub(super) fn reports_of_an_earlier_deployment(cluster: &Cluster) -> Result<()> {
    unchanged(cluster, async {
        let report = cluster.mine.reported()?;
        cluster.mine.say_and_settle(Said::Report(report.clone())).await?;
        // The same outcome under a token that was never given.
        let token = report.token.clone().map(|token| wire::Token { epoch: token.epoch + 1, ..token });
        cluster.mine.say_and_settle(Said::Report(wire::Report { token, ..report })).await
    })
}

pub(super) fn progress_of_another_host(cluster: &Cluster) -> Result<()> {
    let about_the_step = |line: &str| -> Result<Said> {
        let wire::Assign { key, environment, .. } = cluster.runtime.block_on(cluster.theirs.held())?;
        Ok(Said::Progress(wire::Progress { key, environment, line: line.to_owned() }))
    };
    let (evil, right) = (about_the_step("everything is fine")?, about_the_step("half of it is done")?);
    unchanged(cluster, async {
        cluster.mine.say_and_settle(evil).await?;
        audited(cluster, "refuse progress").await
    })?;
    // It is the host that makes the difference.
    cluster.runtime.block_on(cluster.theirs.say(right))?;
    until("the progress of the right host is stored", SOON, || {
        let record = cluster.runtime.block_on(cluster.record.read())?;
        ensure!(!record.has_value("everything is fine"), "so is that of the wrong one");
        Ok(record.has_value("half of it is done"))
    })
}

pub(super) fn local_rollbacks(cluster: &Cluster) -> Result<()> {
    unchanged(cluster, async {
        let rollback = LocalRollback {
            seq: 1,
            environment: THEIRS.parse()?,
            at: now()?,
            by: "eve".to_owned(),
            from: Slot::Green,
            to: Slot::Blue,
            deployment: cluster.aim.earlier.parse()?,
        };
        let rollback = Some(wire::Document::of_content(&rollback));
        cluster.mine.say_and_settle(Said::Local(wire::LocalChanged { rollback })).await?;
        audited(cluster, "refuse local rollback").await
    })
}

/// What stands in the state file of an environment is said by hosts that serve it.
pub(super) fn health(cluster: &Cluster) -> Result<()> {
    unchanged(cluster, async {
        let health = |host: &str| -> Result<Said> {
            let instance = InstanceHealth {
                container: format!("ls-theirs_production-web-blue-2101234{host}"),
                health: Health::Unhealthy,
                probes: Vec::new(),
            };
            let instances = vec![serde_json::to_vec(&instance)?];
            Ok(Said::Health(wire::HealthReport { environment: THEIRS.to_owned(), instances }))
        };
        let theirs = wire::EnvironmentRef { environment: THEIRS.to_owned(), limit: 0 };
        let mut control = cluster.administrator();
        let before = control.export_state(theirs.clone()).await?.into_inner();
        cluster.mine.say_and_settle(health("evil")?).await?;
        let after = control.export_state(theirs.clone()).await?.into_inner();
        ensure!(before == after, "{} became {}", text(&before), text(&after));
        // It is the host that makes the difference.
        cluster.theirs.say_and_settle(health("right")?).await?;
        let rightful = control.export_state(theirs).await?.into_inner();
        ensure!(text(&rightful).contains("\"unhealthy\""), "{}", text(&rightful));
        Ok(())
    })
}

fn text(document: &wire::Document) -> String {
    String::from_utf8_lossy(&document.json).into_owned()
}
