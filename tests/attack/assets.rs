//! What is protected: for each asset, the ways to it that are not a method alone. The names say what is protected.

use anyhow::{Context, Result, bail, ensure};
use lockstep_core::spec::EnvironmentSpec;
use lockstep_proto::wire;
use lockstep_tests::bed::declaration::one_web_process;
use prost::Message;
use tonic::{Code, Response, Status};

use crate::attempt::check_refusal;
use crate::cluster::{Cluster, MINE, THEIRS, declared, deploy};
use crate::methods::Refusal;
use crate::party::Party;

mod credentials;
mod host_messages;

type Attack = fn(&Cluster) -> Result<()>;

pub(crate) const ALL: [(&str, Attack); 25] = [
    ("secrets_of_another_environment", host_messages::secrets_of_another_environment),
    ("secrets_that_no_open_step_uses", host_messages::secrets_that_no_open_step_uses),
    ("registry_logins", host_messages::registry_logins),
    ("reports_of_a_step_of_another_host", host_messages::reports_of_another_host),
    ("reports_of_an_earlier_deployment", host_messages::reports_of_an_earlier_deployment),
    ("progress_of_a_step_of_another_host", host_messages::progress_of_another_host),
    ("local_rollbacks_of_another_environment", host_messages::local_rollbacks),
    ("health_of_another_environment", host_messages::health),
    ("the_master_key", credentials::the_master_key),
    ("secrets_in_the_record_and_in_a_backup", credentials::values_are_encrypted),
    ("tokens_that_wait_and_that_were_used", credentials::tokens),
    ("the_limits_of_a_token", credentials::limits_of_a_token),
    ("what_a_machine_sees", credentials::what_a_machine_sees),
    ("an_identity_is_not_chosen_by_its_owner", credentials::renewal),
    ("the_lock", the_lock),
    ("a_claim_with_the_declaration_of_another_environment", claim_of_another_declaration),
    ("deployments_of_another_environment", deployments_of_another_environment),
    ("plans_of_another_environment", plans_of_another_environment),
    ("grants", grants),
    ("a_grant_that_the_deployer_accepts_itself", accepted_grant),
    ("urls", urls),
    ("an_environment_that_serves", an_environment_that_serves),
    ("the_coordinators_disk", the_coordinators_disk),
    ("readers_cause_no_cost", readers_cause_no_cost),
    ("the_audit_log_of_another_environment", the_audit_log),
];

/// Runs an attack, after which nothing may be different but the audit log.
fn unchanged(cluster: &Cluster, attack: impl Future<Output = Result<()>>) -> Result<()> {
    cluster.runtime.block_on(async {
        let before = cluster.record.read().await?;
        attack.await?;
        before.assert_unchanged(&cluster.record.read().await?)
    })
}

fn refused<T: std::fmt::Debug>(answer: Result<Response<T>, Status>, refusal: Refusal) -> Result<()> {
    match answer {
        Err(status) => check_refusal(refusal, &status),
        Ok(answer) => bail!("it is not refused: {answer:?}"),
    }
}

/// Names of two environments in one call: the right one first.
fn the_lock(cluster: &Cluster) -> Result<()> {
    unchanged(cluster, async {
        for party in [Party::Deployer, Party::Administrator, Party::Machine] {
            let mut control = cluster.control(party).await?;
            let confused =
                wire::DeploymentRef { deployment: cluster.aim.open.clone(), environment: MINE.to_owned() };
            let answer = control.unclaim(confused.clone()).await;
            refused(answer, (Code::FailedPrecondition, "is not a build"))?;
            if party != Party::Machine {
                refused(
                    control.cancel(wire::CancelRequest { deployment: Some(confused) }).await,
                    (Code::PermissionDenied, "it belongs to another environment"),
                )?;
            }
        }
        Ok(())
    })
}

fn claim_of_another_declaration(cluster: &Cluster) -> Result<()> {
    unchanged(cluster, async {
        let claim = wire::ClaimRequest {
            environment: MINE.to_owned(),
            spec: Some(cluster.aim.spec.clone()),
            client: None,
        };
        let answer = cluster.control(Party::Deployer).await?.claim(claim).await;
        refused(answer, (Code::PermissionDenied, "has no access to theirs/production"))
    })
}

/// Neither a guess at the beginning of an id nor a whole one says which deployments others have.
fn deployments_of_another_environment(cluster: &Cluster) -> Result<()> {
    unchanged(cluster, async {
        let theirs = &cluster.aim.open;
        for party in [Party::Reader, Party::Deployer, Party::Administrator, Party::Machine] {
            let mut control = cluster.control(party).await?;
            for guess in ["dep_", "0", &theirs[..12], theirs] {
                let named = wire::DeploymentRef { deployment: guess.to_owned(), environment: String::new() };
                let said = match control.show(named).await {
                    Ok(shown) => {
                        ensure!(guess != theirs, "it is shown to {party:?}");
                        String::from_utf8_lossy(&shown.into_inner().encode_to_vec()).into_owned()
                    }
                    Err(refused) => refused.to_string(),
                };
                ensure!(!said.contains(THEIRS), "{guess} says whose it is: {said}");
                ensure!(guess == theirs || !said.contains(theirs.as_str()), "{guess} names it: {said}");
            }
        }
        Ok(())
    })
}

fn plans_of_another_environment(cluster: &Cluster) -> Result<()> {
    unchanged(cluster, async {
        let mut control = cluster.control(Party::Deployer).await?;
        // A deployment of another environment as what this one goes back to.
        let answer = control.plan(cluster.aim.rollback(MINE)).await;
        refused(answer, (Code::FailedPrecondition, "is not in the history of mine/production"))?;
        // The plan of another environment, as a claim of this one.
        let own = declared(MINE, &cluster.mine)?;
        let start = wire::StartRequest { claim: cluster.aim.open.clone(), ..deploy(&own, "mine:3") };
        refused(control.start(start).await, (Code::FailedPrecondition, "the claim"))?;
        // The declaration of another environment.
        let mut start = deploy(&declared(THEIRS, &cluster.mine)?, "mine:3");
        if let Some(plan) = &mut start.plan {
            plan.environment = MINE.to_owned();
        }
        refused(control.start(start).await, (Code::FailedPrecondition, "the declaration is for"))
    })
}

fn grants(cluster: &Cluster) -> Result<()> {
    unchanged(cluster, async {
        let theirs = declared(MINE, &cluster.theirs)?;
        let mine = declared(MINE, &cluster.mine)?;
        let named = EnvironmentSpec { url: "http://bank.example".to_owned(), ..mine.clone() };
        let networked = EnvironmentSpec { networks: vec!["theirs".to_owned()], ..mine };
        for party in [Party::Deployer, Party::Administrator, Party::DeployerOfAll, Party::Machine] {
            let mut control = cluster.control(party).await?;
            for (spec, lacking) in [(&theirs, "app-2"), (&named, "bank.example"), (&networked, "theirs")] {
                let answer = control.start(deploy(spec, "mine:3")).await;
                refused(answer, (Code::PermissionDenied, "is not granted what its declaration uses"))?;
                let plan = deploy(spec, "mine:3").plan.context("a request without a plan")?;
                refused(control.plan(plan).await, (Code::PermissionDenied, lacking))?;
            }
        }
        let audit = cluster.audit().await?;
        let is_there = |party: Party| {
            audit.iter().any(|line| line.operator == party.name() && line.said.contains("granted"))
        };
        ensure!(is_there(Party::Deployer) || is_there(Party::DeployerOfAll), "the audit log does not say so");
        Ok(())
    })
}

/// The hash of a widening is no secret: it is the one who sends it that counts.
fn accepted_grant(cluster: &Cluster) -> Result<()> {
    unchanged(cluster, async {
        let hosts = [cluster.mine.name.clone(), cluster.theirs.name.clone()];
        let spec = one_web_process(MINE, &hosts)?;
        let asked = deploy(&spec, "mine:3").plan.context("a request without a plan")?;
        let shown = cluster.administrator().plan(asked).await?.into_inner();
        let widening: lockstep_core::record::grant::Widening =
            lockstep_proto::convert::required(shown.widening.as_ref(), "widening")?;
        ensure!(widening.to_string().contains("app-2"), "{widening}");
        let grant = widening.hash(&spec.key).to_string();
        for party in [Party::Deployer, Party::Administrator, Party::DeployerOfAll] {
            let start = wire::StartRequest { grant: grant.clone(), ..deploy(&spec, "mine:3") };
            let answer = cluster.control(party).await?.start(start).await;
            refused(answer, (Code::PermissionDenied, "cannot grant it"))?;
        }
        Ok(())
    })
}

/// Not even who may grant it gives a URL to a second environment.
fn urls(cluster: &Cluster) -> Result<()> {
    unchanged(cluster, async {
        let url = "http://theirs.example".to_owned();
        let spec = EnvironmentSpec { url, ..declared("second/production", &cluster.theirs)? };
        let answer = cluster.administrator().start(deploy(&spec, "second:1")).await;
        refused(answer, (Code::FailedPrecondition, THEIRS))
    })
}

/// Who deploys to an environment cannot give it up, nor can its administrator without the plan that was shown.
fn an_environment_that_serves(cluster: &Cluster) -> Result<()> {
    unchanged(cluster, async {
        let start = || wire::StartRequest {
            plan: Some(wire::PlanRequest {
                what: Some(wire::plan_request::What::Decommission(true)),
                ..cluster.aim.rollback(MINE)
            }),
            ..wire::StartRequest::default()
        };
        for (party, refusal) in [
            (Party::Deployer, (Code::PermissionDenied, "the role admin")),
            (Party::DeployerOfAll, (Code::PermissionDenied, "the role admin")),
            (Party::Machine, (Code::PermissionDenied, "for people, and not for tokens")),
            (Party::Administrator, (Code::FailedPrecondition, "only with the hash of the plan")),
        ] {
            refused(cluster.control(party).await?.start(start()).await, refusal)?;
        }
        Ok(())
    })
}

fn the_coordinators_disk(cluster: &Cluster) -> Result<()> {
    unchanged(cluster, async {
        let mut spec = declared(MINE, &cluster.mine)?;
        spec.deploy.state_file = Some("/etc/cron.d/evil".to_owned());
        let answer = cluster.control(Party::Deployer).await?.start(deploy(&spec, "mine:3")).await;
        refused(answer, (Code::FailedPrecondition, "names a path on the coordinator's machine"))
    })
}

/// A look by a reader asks no registry with the login that is stored.
fn readers_cause_no_cost(cluster: &Cluster) -> Result<()> {
    unchanged(cluster, async {
        let plan =
            || deploy(&declared(MINE, &cluster.mine)?, "mine:4").plan.context("a request without a plan");
        cluster.control(Party::Reader).await?.plan(plan()?).await?;
        let asked = cluster.mine.observed()?;
        ensure!(asked.image == "mine:4" && asked.only_on_this_host, "{asked:?}");
        cluster.control(Party::Deployer).await?.plan(plan()?).await?;
        ensure!(!cluster.mine.observed()?.only_on_this_host, "the host is not asked differently");
        Ok(())
    })
}

fn the_audit_log(cluster: &Cluster) -> Result<()> {
    unchanged(cluster, async {
        let everything = wire::EnvironmentRef { environment: String::new(), limit: 10_000 };
        let all = cluster.audit().await?;
        ensure!(all.iter().any(|line| line.environment == THEIRS), "there is nothing to hide");
        let list = wire::EnvironmentRef { environment: THEIRS.to_owned(), limit: 0 };
        let refusal = (Code::PermissionDenied, "has no access to theirs/production");
        refused(cluster.control(Party::Deployer).await?.audit(list).await, refusal)?;
        let seen = cluster.control(Party::Administrator).await?.audit(everything).await?.into_inner().records;
        ensure!(seen.iter().any(|line| line.environment == MINE), "nothing is seen");
        let names_theirs =
            |line: &&wire::AuditRecord| line.environment == THEIRS || line.said.contains(THEIRS);
        let theirs: Vec<_> = seen.iter().filter(names_theirs).collect();
        ensure!(theirs.is_empty(), "{theirs:?}");
        Ok(())
    })
}
