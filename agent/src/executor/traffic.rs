//! Where requests go: the site, the switch with its proof, and the drain.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use futures::future::ready;
use futures::stream;
use lockstep_core::health::{Answer, Probe};
use lockstep_core::id::Digest;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::action::{Endpoint, Site, SwitchTraffic};
use lockstep_core::run::journal::{Direction, Finding, StepFailure};
use lockstep_core::slot::Slot;
use lockstep_core::time::Millis;
use procfs::ProcResult;
use procfs::net::{TcpNetEntry, TcpState};
use tokio::time::{Instant, sleep};

use super::health::PROBES_AT_ONCE;
use super::{Executors, Work, finding};
use crate::host::sockets;
use crate::nginx::site::{Address, UPSTREAM_HEADER};
use crate::nginx::{DesiredSite, Reloaded, SiteRevert};
use crate::probe::{self, ProbeAnswer, ProbeRequest, Reads, Scheme};

/// The number of answers in a row from the new slot that prove a switch.
const PROOFS: u32 = 3;

/// How long the first of them may take.
const PROOF_LIMIT: Duration = Duration::from_secs(10);

/// How long all of them may take from a slow application: less than the limit of the step.
const PROOF_LIMIT_SLOW: Duration = Duration::from_secs(27);

/// How long one answer may take.
const PROOF_ANSWER_LIMIT: Duration = Duration::from_secs(9);

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What an operator does where nginx does not do as its site says.
const OTHER_SITE: &str = "nginx -T shows the site; look for another server block with the same name and port";

/// How long an instance may take to show that it answers at all.
const ALIVE_LIMIT: Duration = Duration::from_secs(2);

/// What an answer through nginx must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// A good one of the slot.
    Healthy,
    /// One that nginx asked the slot for, whatever it is.
    Routed,
}

/// nginx does not answer from the slot.
pub(super) struct NotProved {
    /// The last answer.
    pub(super) last: String,
}

impl Executors {
    pub(super) async fn install_site(
        &self,
        work: &Work,
        site: &Site,
        overwrites: Option<&Digest>,
    ) -> Result<Finding, StepFailure> {
        let wanted = DesiredSite { deployment: &work.key.deployment, site, overwrites };
        let reloaded = self.nginx.install(&work.environment, &wanted).await?;
        let text = match reloaded {
            Reloaded::Yes => "installed, and nginx serves it",
            Reloaded::No => "already installed",
        };
        Ok(Finding { reloaded: reloaded == Reloaded::Yes, ..finding(text) })
    }

    pub(super) async fn take_site_down(&self, work: &Work) -> Result<Finding, StepFailure> {
        let removed = self.nginx.take_down(&work.environment, &work.key.deployment).await?;
        if removed == SiteRevert::LeftAsChanged {
            // What is behind it stops next.
            return Err(StepFailure::new(format!("the site of {} was changed by hand", work.environment))
                .why("it is not removed, so nginx would serve what is stopped next")
                .next(format!("lockstep doctor {}    # shows the change", work.environment)));
        }
        Ok(super::site_reverted(removed, "nginx does not serve it any more"))
    }

    pub(super) async fn switch_traffic(
        &self,
        work: &Work,
        switch: &SwitchTraffic,
    ) -> Result<Finding, StepFailure> {
        let before = self.nginx.traffic(&work.environment, &work.key.deployment).await;
        if work.key.direction == Direction::Undo {
            let said = tokio::select! {
                said = self.switch_back(&work.environment, switch) => said?,
                () = work.cancel.cancelled() => return Err(StepFailure::new("it stopped before it was done")),
            };
            self.write_live_state(&work.environment, switch.to)?;
            return Ok(Finding { traffic: before, ..finding(said) });
        }
        let begun = Instant::now();
        self.nginx
            .switch(&work.environment, switch.to)
            .map_err(|error| StepFailure::new("cannot write the switch file").why(error.to_string()))?;
        let watch = |probe: &Probe| work.output.application_said(&format!("through nginx: {probe}"));
        let proved = tokio::select! {
            proved = self.prove(&work.environment, (switch, Proof::Healthy), begun, watch) => proved,
            () = work.cancel.cancelled() => return Err(StepFailure::new("it stopped before it was done")),
        };
        let took = proved.map_err(|not_proved| {
            StepFailure::new(format!("nginx does not answer from {}", switch.to))
                .why(not_proved.last)
                .next(OTHER_SITE)
        })?;
        self.write_live_state(&work.environment, switch.to)?;
        let mut finding = finding(format!("nginx answered {PROOFS} times from {}", switch.to));
        finding.traffic = before;
        finding.switch_took = Some(took);
        Ok(finding)
    }

    fn write_live_state(&self, environment: &EnvironmentKey, live: Slot) -> Result<(), StepFailure> {
        self.write_state(environment, live, "live")?;
        self.write_state(environment, live.other(), "standby")
    }

    /// Gives the traffic back to the slot that had it, in whatever health that is: the release that took it over is not
    /// wanted any more. Only a slot that gives no answer at all does not get it from one that is healthy.
    ///
    /// # Errors
    /// When the switch fails or is not proved, or only the other slot answers.
    pub async fn switch_back(
        &self,
        environment: &EnvironmentKey,
        switch: &SwitchTraffic,
    ) -> Result<String, StepFailure> {
        let (to, from) = (switch.to, self.nginx.slot(environment));
        if from != to && !answers(switch).await && self.is_healthy_through_nginx(environment, switch).await {
            return Err(StepFailure::new(format!(
                "{to} does not answer, so it does not get the traffic back"
            ))
            .why(format!("the traffic stays in {from}, which is healthy"))
            .next(format!("see why {to} does not answer: docker ps --all")));
        }
        let begun = Instant::now();
        self.nginx
            .switch(environment, to)
            .map_err(|error| StepFailure::new("cannot write the switch file").why(error.to_string()))?;
        let mut last = None;
        let watch = |probe: &Probe| last = Some(probe.to_string());
        match self.prove(environment, (switch, Proof::Routed), begun, watch).await {
            Ok(_) => Ok(match last {
                None => format!("nginx sends requests to {to} again"),
                Some(last) => {
                    format!("nginx sends requests to {to} again, which is not healthy itself: {last}")
                }
            }),
            Err(not_proved) => Err(StepFailure::new(format!("nginx does not send requests to {to}"))
                .why(not_proved.last)
                .next(OTHER_SITE)),
        }
    }

    async fn is_healthy_through_nginx(&self, environment: &EnvironmentKey, switch: &SwitchTraffic) -> bool {
        let at = self.nginx.address(environment).unwrap_or_else(|| Address::of_switch(switch));
        let answered = self.nginx.ask(&at, &switch.health_path, ALIVE_LIMIT).await;
        answered.is_ok_and(|answered| is_healthy(&answered.probe))
    }

    /// Waits until several answers in a row through nginx come from the slot, and returns the time of the first. It
    /// does not read bodies, and it waits for a slow application.
    pub(super) async fn prove(
        &self,
        environment: &EnvironmentKey,
        (switch, wanted): (&SwitchTraffic, Proof),
        begun: Instant,
        mut watch: impl FnMut(&Probe),
    ) -> Result<Millis, NotProved> {
        // While a deployment is taken back the site is still the one that it brought.
        let at = self.nginx.address(environment).unwrap_or_else(|| Address::of_switch(switch));
        let mut first = None;
        let mut row = 0;
        loop {
            let limit = PROOF_LIMIT_SLOW.saturating_sub(begun.elapsed()).min(PROOF_ANSWER_LIMIT);
            let answer = self.nginx.ask(&at, &switch.health_path, limit).await;
            let answered = answer.map_err(|error| NotProved { last: error.to_string() })?;
            if is_proof(&answered, &switch.endpoints, wanted) {
                row += 1;
                first.get_or_insert_with(|| begun.elapsed());
                if !is_healthy(&answered.probe) {
                    watch(&answered.probe);
                }
            } else {
                row = 0;
                first = None;
                watch(&answered.probe);
            }
            let limit = match first {
                Some(first) if row == PROOFS => {
                    return Ok(Millis(u64::try_from(first.as_millis()).unwrap_or(u64::MAX)));
                }
                // It answers, and is slow.
                Some(_) => PROOF_LIMIT_SLOW,
                None => PROOF_LIMIT,
            };
            if begun.elapsed() >= limit {
                let from = upstream(&answered).unwrap_or_else(|| "no endpoint".to_owned());
                return Err(NotProved {
                    last: format!("the last answer came from {from}: {}", answered.probe),
                });
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until no connection to the slot is established. A passed deadline is not a failure: the slot stays warm,
    /// and the remaining connections continue there.
    pub(super) async fn drain(
        &self,
        work: &Work,
        slot: Slot,
        ports: &[Endpoint],
        deadline: Millis,
    ) -> Result<Finding, StepFailure> {
        let begun = Instant::now();
        loop {
            let left = established(ports).map_err(|error| {
                StepFailure::new("cannot count the connections of this host").why(error.to_string())
            })?;
            if left == 0 {
                return Ok(finding(format!("no connections to {slot} are open")));
            }
            if begun.elapsed() >= Duration::from_millis(deadline.0) {
                return Ok(finding(format!("{left} connections to {slot} are still open at the deadline")));
            }
            work.output.line(&format!("{left} connections to {slot} are open"));
            tokio::select! {
                () = sleep(Duration::from_millis(100)) => {}
                () = work.cancel.cancelled() => return Err(StepFailure::new("it stopped before it was done")),
            }
        }
    }
}

/// The endpoint that answered: the last one that nginx lists. Those before it failed.
fn upstream(answered: &ProbeAnswer) -> Option<String> {
    let tried = answered.headers.get(UPSTREAM_HEADER)?.to_str().ok()?;
    tried.rsplit([',', ' ']).next().map(ToOwned::to_owned)
}

fn is_healthy(probe: &Probe) -> bool {
    matches!(probe.answer, Answer::Http { status: 200..300, .. })
}

/// Whether one instance of the slot gives any answer.
async fn answers(switch: &SwitchTraffic) -> bool {
    let probes: Vec<_> = switch.endpoints.iter().map(|endpoint| instance_answers(switch, endpoint)).collect();
    stream::iter(probes).buffer_unordered(PROBES_AT_ONCE).any(ready).await
}

async fn instance_answers(switch: &SwitchTraffic, endpoint: &Endpoint) -> bool {
    let request = ProbeRequest {
        address: &endpoint.address,
        port: endpoint.port,
        host: &switch.server_name,
        path: &switch.health_path,
        header: None,
        scheme: Scheme::Http,
        reads: Reads::Headers,
        limit: ALIVE_LIMIT,
    };
    matches!(probe::send_probe(&request).await.probe.answer, Answer::Http { .. })
}

fn is_proof(answered: &ProbeAnswer, endpoints: &[Endpoint], wanted: Proof) -> bool {
    let is_good = match wanted {
        Proof::Healthy => is_healthy(&answered.probe),
        Proof::Routed => true,
    };
    let from = upstream(answered);
    is_good && endpoints.iter().any(|endpoint| from.as_deref() == Some(endpoint.to_string().as_str()))
}

/// The number of established connections from this host to these endpoints.
fn established(endpoints: &[Endpoint]) -> ProcResult<usize> {
    let all = sockets::tcp_sockets()?;
    Ok(all.iter().filter(|socket| carries_requests(socket, endpoints)).count())
}

fn carries_requests(entry: &TcpNetEntry, endpoints: &[Endpoint]) -> bool {
    entry.state == TcpState::Established && is_one_of(entry.remote_address, endpoints)
}

/// A socket for both families shows an IPv4 address inside an IPv6 one.
fn is_one_of(remote: SocketAddr, endpoints: &[Endpoint]) -> bool {
    endpoints.iter().any(|endpoint| {
        endpoint.port == remote.port()
            && endpoint.address.parse::<IpAddr>().is_ok_and(|ip| ip == remote.ip().to_canonical())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_from_the_last_that_was_tried() {
        let answered = |tried: &'static str| {
            let answer = Answer::Http { status: 200, declared: None, body: String::new() };
            let mut headers = hyper::HeaderMap::new();
            headers.insert(UPSTREAM_HEADER, tried.parse().unwrap());
            let probe = lockstep_core::health::Probe {
                at: lockstep_core::time::Timestamp(0),
                took: Millis(1),
                answer,
            };
            ProbeAnswer { probe, headers, schema_version: None }
        };
        let endpoints = [Endpoint { address: "10.0.0.2".to_owned(), port: 20_000 }];
        assert!(is_proof(&answered("10.0.0.2:20000"), &endpoints, Proof::Healthy));
        assert!(
            is_proof(&answered("10.0.0.1:20000, 10.0.0.2:20000"), &endpoints, Proof::Healthy),
            "the first was passed over"
        );
        assert!(!is_proof(&answered("10.0.0.2:20000, 10.0.0.1:20000"), &endpoints, Proof::Routed));
    }

    fn endpoint(address: &str, port: u16) -> [Endpoint; 1] {
        [Endpoint { address: address.to_owned(), port }]
    }

    #[test]
    fn a_connection_is_counted_by_its_far_end() {
        let remote = |text: &str| text.parse::<SocketAddr>().unwrap();
        let endpoints = endpoint("172.17.0.1", 20_001);
        assert!(is_one_of(remote("172.17.0.1:20001"), &endpoints));
        assert!(!is_one_of(remote("172.17.0.1:20000"), &endpoints));
        assert!(!is_one_of(remote("127.0.0.1:20001"), &endpoints));
    }

    #[test]
    fn a_connection_of_a_socket_for_both_families_is_counted() {
        assert!(is_one_of("[::ffff:172.17.0.1]:20001".parse().unwrap(), &endpoint("172.17.0.1", 20_001)));
    }

    #[test]
    fn a_connection_is_counted_until_this_host_closes_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoints = endpoint("127.0.0.1", listener.local_addr().unwrap().port());
        assert_eq!(established(&endpoints).unwrap(), 0);
        let connection = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(established(&endpoints).unwrap(), 1);
        // What waits for its end carries no request.
        drop(connection);
        assert_eq!(established(&endpoints).unwrap(), 0);
    }
}
