//! The end of the wire types: a message of the coordinator becomes an [`Order`], and a value of this host becomes a
//! message. Nothing is decided here.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::agent::fence::Token;
use lockstep_core::agent::host_task::HostTask;
use lockstep_core::health::InstanceHealth;
use lockstep_core::id::{DeploymentId, StepId};
use lockstep_core::image::{ImageLookup, RegistryName};
use lockstep_core::name::{EnvironmentKey, ProcessName};
use lockstep_core::object_name::ObjectName;
use lockstep_core::plan::action::{DatabaseRef, SecretNames};
use lockstep_core::record::local_rollback::LocalRollback;
use lockstep_core::record::observed::Observation;
use lockstep_core::run::journal::{Finding, StepFailure, StepKey};
use lockstep_core::run::limits::TEXT_BYTES_MAX;
use lockstep_core::secret::Secret;
use lockstep_core::shortened::shortened;
use lockstep_core::time::Millis;
use lockstep_proto::wire::from_agent::Message as FromAgent;
use lockstep_proto::wire::step_standing::Standing as WireStanding;
use lockstep_proto::wire::to_agent::Message as ToAgent;
use lockstep_proto::{Invalid, convert, wire};

use crate::executor::observe::ObservationRequest;
use crate::host::vitals::Reading;
use crate::journal::assignment::Assignment;
use crate::journal::{Ended, IdleReason, JournaledStatus, Outcome};
use crate::session::requests::Request;
use crate::session::secrets::{SecretSet, SecretsRequest};

/// The text of one message of a log.
const LOG_PART_BYTES_MAX: usize = 256 * 1024;

/// A request or an answer of the coordinator.
#[derive(Debug)]
pub(super) enum Order {
    Welcome {
        cluster: String,
        coordinator: String,
        coordinators: Vec<String>,
        /// PEM, the signing root first. Empty if the coordinator does not send it.
        roots: String,
    },
    Assign {
        assignment: Box<Assignment>,
        objects: ObjectName,
    },
    Observe {
        request: ObservationRequest,
        objects: ObjectName,
    },
    Secrets {
        request: u64,
        given: Result<SecretSet, String>,
    },
    Login {
        request: u64,
        given: Result<Option<(String, Secret)>, String>,
    },
    RunHostTask {
        request: u64,
        task: HostTask,
    },
    QueryStatuses {
        token: Token,
        environment: EnvironmentKey,
        keys: Vec<StepKey>,
    },
    FetchLog(LogRequest),
    LocalRollbackAdopted {
        seq: u64,
    },
    Vitals {
        request: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRequest {
    pub request: u64,
    pub environment: EnvironmentKey,
    pub of: LogSource,
    /// The number of lines from the end; `None` for all lines.
    pub tail: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogSource {
    Step {
        deployment: DeploymentId,
        step: StepId,
    },
    /// The output of the live slot's containers.
    Live {
        process: Option<ProcessName>,
    },
}

/// A message that cannot be read, and the answer to it.
#[derive(Debug)]
pub(super) struct UnreadableMessage {
    pub(super) invalid: Invalid,
    /// An assignment gets an answer, or its driver would wait for its limit.
    pub(super) answer: Option<Box<wire::FromAgent>>,
}

impl From<Invalid> for UnreadableMessage {
    fn from(invalid: Invalid) -> Self {
        Self { invalid, answer: None }
    }
}

/// Reads a message of the coordinator.
///
/// # Errors
/// When the message is not valid.
pub(super) fn read(message: wire::ToAgent) -> Result<Order, UnreadableMessage> {
    match message.message.ok_or_else(|| Invalid::missing("message"))? {
        ToAgent::Welcome(wire::Welcome { cluster, coordinator, coordinators, authority }) => {
            Ok(Order::Welcome { cluster, coordinator, coordinators, roots: authority })
        }
        ToAgent::Assign(assign) => {
            let refused = wire::Refused {
                token: assign.token.clone(),
                key: assign.key.clone(),
                environment: assign.environment.clone(),
                why: String::new(),
            };
            assignment(assign).map_err(|invalid| {
                let refused = wire::Refused { why: invalid.to_string(), ..refused };
                UnreadableMessage { answer: Some(Box::new(envelope(FromAgent::Refused(refused)))), invalid }
            })
        }
        ToAgent::Observe(observe) => Ok(observation_request(observe)?),
        ToAgent::Secrets(wire::Secrets { request, result }) => {
            let given = match result.ok_or_else(|| Invalid::missing("secrets.result"))? {
                wire::secrets::Result::Variables(wire::Variables { values, public }) => {
                    let values: BTreeMap<String, String> = values.into_iter().collect();
                    let public: BTreeSet<String> = public.into_iter().collect();
                    // Large values take some milliseconds: what else is due on this thread goes on elsewhere.
                    Ok(tokio::task::block_in_place(|| SecretSet::new(values, public)))
                }
                wire::secrets::Result::Refused(why) => Err(why),
            };
            Ok(Order::Secrets { request, given })
        }
        ToAgent::Login(wire::RegistryLogin { request, result }) => {
            let given = match result.ok_or_else(|| Invalid::missing("login.result"))? {
                wire::registry_login::Result::Login(wire::UsernamePassword { username, password }) => {
                    Ok(Some((username, Secret::new(password))))
                }
                wire::registry_login::Result::None(_) => Ok(None),
                wire::registry_login::Result::Refused(why) => Err(why),
            };
            Ok(Order::Login { request, given })
        }
        ToAgent::RunErrand(wire::RunErrand { request, errand }) => {
            match convert::required(errand.as_ref(), "run_errand.errand") {
                Ok(task) => Ok(Order::RunHostTask { request, task }),
                Err(invalid) => {
                    let answer = task_done(request, Err(invalid.to_string()));
                    Err(UnreadableMessage { answer: Some(Box::new(answer)), invalid })
                }
            }
        }
        ToAgent::Ask(wire::AskStanding { token, environment: of, keys }) => Ok(Order::QueryStatuses {
            token: token.ok_or_else(|| Invalid::missing("ask.token"))?.try_into()?,
            environment: environment(&of)?,
            keys: keys.into_iter().map(StepKey::try_from).collect::<Result<_, _>>()?,
        }),
        ToAgent::LocalTakenIn(wire::LocalTakenIn { seq }) => Ok(Order::LocalRollbackAdopted { seq }),
        ToAgent::AskVitals(wire::AskVitals { request }) => Ok(Order::Vitals { request }),
        ToAgent::FetchLog(fetch) => Ok(Order::FetchLog(log_request(fetch)?)),
    }
}

fn assignment(assign: wire::Assign) -> Result<Order, Invalid> {
    let wire::Assign { token, key, environment: of, action, limit_ms, traceparent, object_name } = assign;
    let environment = environment(&of)?;
    let objects = objects(&environment, object_name)?;
    let assignment = Assignment {
        token: token.ok_or_else(|| Invalid::missing("assign.token"))?.try_into()?,
        key: key.ok_or_else(|| Invalid::missing("assign.key"))?.try_into()?,
        environment,
        action: action.map(|action| action.read("assign.action")).transpose()?,
        limit: Millis(limit_ms),
        traceparent,
    };
    Ok(Order::Assign { assignment: Box::new(assignment), objects })
}

/// A coordinator of an earlier version says no name: it knows only one.
fn objects(environment: &EnvironmentKey, said: String) -> Result<ObjectName, Invalid> {
    match non_empty(said) {
        None => Ok(ObjectName::legacy(environment)),
        Some(name) => name.parse().map_err(|error| Invalid::because("object_name", error)),
    }
}

fn observation_request(observe: wire::Observe) -> Result<Order, Invalid> {
    let wire::Observe {
        request,
        environment: of,
        image,
        migrations_path,
        database_url_from,
        secrets_version,
        addresses,
        object_name,
        only_on_this_host,
    } = observe;
    let environment = environment(&of)?;
    let objects = objects(&environment, object_name)?;
    let request = ObservationRequest {
        request,
        environment,
        image: non_empty(image),
        lookup: if only_on_this_host { ImageLookup::ThisHost } else { ImageLookup::Registry },
        migrations_path: non_empty(migrations_path),
        database: non_empty(database_url_from).map(|url_from| DatabaseRef { url_from, secrets_version }),
        addresses,
    };
    Ok(Order::Observe { request, objects })
}

fn log_request(fetch: wire::FetchLog) -> Result<LogRequest, Invalid> {
    let wire::FetchLog { request, environment: of, deployment, step, process, tail, secrets_version: _ } =
        fetch;
    let of_log = match non_empty(deployment) {
        Some(deployment) => LogSource::Step {
            deployment: deployment
                .parse()
                .map_err(|error| Invalid::because("fetch_log.deployment", error))?,
            step: StepId(u16::try_from(step).map_err(|error| Invalid::because("fetch_log.step", error))?),
        },
        None => LogSource::Live {
            process: non_empty(process)
                .map(|process| process.parse())
                .transpose()
                .map_err(|error| Invalid::because("fetch_log.process", error))?,
        },
    };
    Ok(LogRequest { request, environment: environment(&of)?, of: of_log, tail: (tail != 0).then_some(tail) })
}

fn environment(text: &str) -> Result<EnvironmentKey, Invalid> {
    text.parse().map_err(|error| Invalid::because("environment", error))
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// A message of this host.
pub(super) fn envelope(message: FromAgent) -> wire::FromAgent {
    wire::FromAgent { message: Some(message) }
}

pub(super) fn report(Ended { token, key, environment, outcome }: &Ended) -> wire::FromAgent {
    envelope(FromAgent::Report(wire::Report {
        token: Some(token.clone().into()),
        key: Some(key.clone().into()),
        environment: environment.to_string(),
        outcome: Some(wire::Outcome::of(&bounded(outcome))),
    }))
}

/// An outcome that was recorded by an earlier version has no limits yet.
fn bounded(outcome: &Outcome) -> Outcome {
    outcome.clone().map(Finding::bounded).map_err(StepFailure::bounded)
}

pub(super) fn refused(
    token: Token,
    key: StepKey,
    environment: &EnvironmentKey,
    why: String,
) -> wire::FromAgent {
    envelope(FromAgent::Refused(wire::Refused {
        token: Some(token.into()),
        key: Some(key.into()),
        environment: environment.to_string(),
        why,
    }))
}

pub(super) fn statuses(
    token: Token,
    environment: &EnvironmentKey,
    standings: Vec<(StepKey, JournaledStatus)>,
) -> wire::FromAgent {
    let standings = standings
        .into_iter()
        .map(|(key, standing)| wire::StepStanding {
            key: Some(key.into()),
            standing: Some(match standing {
                JournaledStatus::Ended(outcome) => WireStanding::Ended(wire::Outcome::of(&bounded(&outcome))),
                JournaledStatus::Running => WireStanding::Running(true),
                // All three are the same to a driver: send it again, and it is carried out from here.
                JournaledStatus::Idle(
                    IdleReason::NeverAccepted | IdleReason::Accepted | IdleReason::Interrupted,
                ) => WireStanding::Unheard(true),
            }),
        })
        .collect();
    envelope(FromAgent::Standing(wire::StandingReply {
        token: Some(token.into()),
        environment: environment.to_string(),
        standings,
    }))
}

pub(super) fn secrets_wanted(request: Request<SecretsRequest>) -> wire::FromAgent {
    let Request { number, of: SecretsRequest { environment, uses } } = request;
    envelope(FromAgent::SecretsWanted(wire::SecretsWanted {
        request: number,
        environment: environment.to_string(),
        version: uses.version,
        names: match uses.names {
            SecretNames::All => Vec::new(),
            SecretNames::Only(names) => names.into_iter().collect(),
        },
    }))
}

pub(super) fn login_wanted(request: Request<RegistryName>) -> wire::FromAgent {
    let Request { number, of: registry } = request;
    envelope(FromAgent::LoginWanted(wire::LoginWanted { request: number, registry: registry.into() }))
}

pub(super) fn task_done(request: u64, done: Result<(), String>) -> wire::FromAgent {
    let why_not = shortened(done.err().unwrap_or_default(), TEXT_BYTES_MAX);
    envelope(FromAgent::ErrandDone(wire::ErrandDone { request, why_not }))
}

pub(super) fn progress(key: StepKey, environment: &EnvironmentKey, line: String) -> wire::FromAgent {
    envelope(FromAgent::Progress(wire::Progress {
        key: Some(key.into()),
        environment: environment.to_string(),
        line,
    }))
}

pub(super) fn health(environment: &EnvironmentKey, instances: &[InstanceHealth]) -> wire::FromAgent {
    let instances = instances
        .iter()
        .map(|instance| {
            serde_json::to_vec(instance).expect("an instance's health has only text, numbers and lists")
        })
        .collect();
    envelope(FromAgent::Health(wire::HealthReport { environment: environment.to_string(), instances }))
}

pub(super) fn local_rollback(rollback: &LocalRollback) -> wire::FromAgent {
    envelope(FromAgent::Local(wire::LocalChanged { rollback: Some(wire::Document::of_content(rollback)) }))
}

pub(super) fn observed(request: u64, observation: &Observation) -> wire::FromAgent {
    envelope(FromAgent::Observed(wire::Observed {
        request,
        observation: Some(wire::Document::of_content(observation)),
    }))
}

pub(super) fn vitals(request: u64, reading: Reading) -> wire::FromAgent {
    let Reading { clock, disk, certificate } = reading;
    let (from, until) = certificate.unwrap_or_default();
    envelope(FromAgent::Vitals(wire::Vitals {
        request,
        clock_ms: clock.0,
        disk_free_bytes: disk.map_or(0, |disk| disk.free_bytes),
        disk_size_bytes: disk.map_or(0, |disk| disk.size_bytes),
        certificate_from_ms: from.0,
        certificate_until_ms: until.0,
    }))
}

/// The lines of a log, in messages that are small enough. The last one is marked.
pub(super) fn log(request: u64, lines: Vec<String>) -> Vec<wire::FromAgent> {
    let mut parts = vec![Vec::new()];
    let mut length = 0;
    for line in lines {
        if length + line.len() > LOG_PART_BYTES_MAX {
            parts.push(Vec::new());
            length = 0;
        }
        length += line.len();
        if let Some(part) = parts.last_mut() {
            part.push(line);
        }
    }
    let last = parts.len();
    let reply = |(number, lines)| {
        envelope(FromAgent::Log(wire::LogReply { request, lines, last: number + 1 == last }))
    };
    parts.into_iter().enumerate().map(reply).collect()
}
