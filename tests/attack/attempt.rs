//! One wrong party calls one method: it is refused with a message that says what is lacking, the audit log says so, and
//! nothing else has changed.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lockstep_core::access::OperatorRole;
use lockstep_proto::dial::DialError;
use lockstep_proto::wire;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::cluster::{Cluster, PASSWORD, SECRET, THEIRS};
use crate::methods::{Callers, Machines, Method, Reach, Refusal};
use crate::party::Party;

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What must come of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expected {
    NoConnection,
    Refused(Refusal),
    /// All operators may see this. It must not say anything of other environments.
    Answered,
    /// The party may call it: this is no attack.
    Rightful,
}

/// What must come of it when `party` calls `method`.
pub(crate) fn expected(party: Party, method: &Method) -> Expected {
    use Expected::{Answered, NoConnection, Refused, Rightful};
    let denied = |words| Refused((Code::PermissionDenied, words));
    let unknown = |words| Refused((Code::Unauthenticated, words));
    match (party, method.callers) {
        (Party::Stranger, _) => NoConnection,
        (Party::RemovedCoordinator, _) => unknown("signed by a coordinator that was removed"),
        (Party::ForgottenHost, _) => unknown("was removed, or never joined"),
        (Party::RevokedOperator, _) => unknown("has been revoked"),
        (_, Callers::Anyone(refusal)) | (Party::Host, Callers::Agents(refusal)) => Refused(refusal),
        (Party::Nobody, _) => unknown("needs a client certificate"),
        (Party::Machine, Callers::AnyCertificate) => denied("logs in again with its token"),
        (_, Callers::AnyCertificate) | (Party::Coordinator, Callers::Coordinators) => Rightful,
        (Party::Coordinator | Party::Host, _) | (_, Callers::Agents(_) | Callers::Coordinators) => {
            denied("may not call")
        }
        (Party::Machine, Callers::Operators(_, _, Machines::MayNot) | Callers::AdministratorsOfAll) => {
            denied("it is for people, and not for tokens")
        }
        (operator, Callers::AdministratorsOfAll) => match operator.rights() {
            Some((OperatorRole::Admin, _)) => denied("needs an administrator of every environment"),
            Some(_) | None => denied("needs the role admin"),
        },
        (operator, Callers::Operators(needed, reach, _)) => match (operator.rights(), reach) {
            (Some((role, _)), _) if role < needed => denied("this command needs the role"),
            (Some((_, true)), _) => Rightful,
            (Some((_, false)), Reach::Cluster) => Answered,
            (Some((_, false)), Reach::Environment) | (None, _) => denied("has no access to"),
        },
    }
}

/// The call, and what has become of it.
pub(crate) fn attempt(cluster: &Cluster, party: Party, method: &Method) -> Result<()> {
    cluster.runtime.block_on(async {
        let before = cluster.record.read().await?;
        let answer = match cluster.channel(party).await {
            Ok(channel) => {
                let call = (method.call)(channel, &cluster.aim);
                Ok(tokio::time::timeout(ANSWER_LIMIT, call).await.context("it is not answered")?)
            }
            Err(error) => Err(error),
        };
        let after = cluster.record.read().await?;
        before.assert_unchanged(&after)?;
        let lines = after.audit_lines() - before.audit_lines();
        match (expected(party, method), answer) {
            (Expected::NoConnection, Err(DialError::CertificateRefused { why, .. })) => {
                ensure!(why.contains("authority that the coordinator does not trust"), "{why}");
                ensure!(lines == 0, "anybody can write to the audit log");
            }
            (Expected::Refused(refusal), Ok(Err(status))) => {
                check_refusal(refusal, &status)?;
                let is_known = party != Party::Nobody;
                // That nobody waits for an image is no refusal of a right.
                if is_known && status.code() != Code::NotFound {
                    check_audit(cluster, party, method, refusal).await?;
                } else {
                    ensure!(lines == 0, "the audit log gained {lines} lines");
                }
            }
            (Expected::Answered, Ok(Ok(answer))) => {
                let answer = String::from_utf8_lossy(&answer);
                for theirs in [THEIRS, SECRET, PASSWORD] {
                    ensure!(!answer.contains(theirs), "the answer has {theirs}: {answer}");
                }
                ensure!(lines == 0, "the audit log gained {lines} lines");
            }
            (expected, Ok(Err(status))) => bail!("instead of {expected:?}: {status:?}"),
            (expected, Ok(Ok(answer))) => {
                bail!("instead of {expected:?}: {}", String::from_utf8_lossy(&answer))
            }
            (expected, Err(error)) => bail!("instead of {expected:?}: {error}"),
        }
        Ok(())
    })
}

/// Not even an administrator calls a method that has no row in the table of the coordinator.
pub(crate) fn unknown_method(cluster: &Cluster) -> Result<()> {
    cluster.runtime.block_on(async {
        let before = cluster.record.read().await?;
        let mut client = Grpc::new(cluster.channel(Party::Administrator).await?);
        client.ready().await?;
        let codec = ProstCodec::<wire::ListRequest, wire::Done>::default();
        let path = PathAndQuery::from_static("/lockstep.v1.Control/Nothing");
        let answer = client.unary(Request::new(wire::ListRequest {}), path, codec).await;
        let Err(status) = answer else { bail!("it is answered: {answer:?}") };
        check_refusal((Code::Unimplemented, "is not a method of this service"), &status)?;
        before.assert_unchanged(&cluster.record.read().await?)
    })
}

/// Fails unless `status` is this refusal.
pub(crate) fn check_refusal((code, words): Refusal, status: &Status) -> Result<()> {
    ensure!(status.code() == code && status.message().contains(words), "not {code:?} {words:?}: {status:?}");
    Ok(())
}

/// The audit log has one line of this caller and method, however often it was called.
async fn check_audit(cluster: &Cluster, party: Party, method: &Method, (_, words): Refusal) -> Result<()> {
    let caller = cluster.identity(party)?;
    let name = method.path.rsplit('/').next().unwrap_or(method.path);
    let (verb, begin) = match name {
        // Its certificate may call it: it is the session that is refused.
        "Attach" if party == Party::Host => {
            ("refuse session", format!("refuse session of {}: ", cluster.mine.id))
        }
        _ => ("refuse call", format!("refused {caller} to call {name}: ")),
    };
    let audit = cluster.audit().await?;
    let lines: Vec<_> = audit.iter().filter(|line| line.said.starts_with(&begin)).collect();
    let [line] = lines.as_slice() else {
        bail!("the audit log has {} lines that begin with {begin:?}", lines.len());
    };
    ensure!(line.verb == verb && line.said.contains(words), "{line:?}");
    Ok(())
}
