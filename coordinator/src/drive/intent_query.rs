//! After a take-over, asks the hosts about the steps that the previous driver left open.

use std::sync::Arc;
use std::time::Duration;

use lockstep_core::run::engine::OpenIntent;
use lockstep_core::run::journal::StepKey;
use lockstep_core::time::Timestamp;
use tracing::info;

use crate::ports::agents::{Agents, QueriedStatus, StepQuery};
use crate::ports::clock::Clock;

/// How long until an agent that did not answer is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// One question, asked until it is answered or nobody needs the answer any more.
pub(super) struct IntentQuery {
    pub(super) agents: Arc<dyn Agents>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) intent: OpenIntent,
    pub(super) key: StepKey,
    pub(super) question: StepQuery,
    /// The step's deadline: from then on its outcome is unknown, whatever its agent would say.
    pub(super) until: Timestamp,
}

/// What came of it; no standing when the deadline passed.
pub(super) struct IntentAnswer {
    pub(super) intent: OpenIntent,
    pub(super) standing: Option<QueriedStatus>,
}

impl IntentQuery {
    pub(super) async fn ask(self) -> IntentAnswer {
        let mut said = false;
        while self.clock.now() < self.until {
            match self.agents.query_steps(&self.intent.host, self.question.clone()).await {
                Ok(standings) => {
                    let found = standings.into_iter().find(|(key, _)| *key == self.key);
                    // An answer that does not name the step knows nothing of it.
                    let standing = found.map_or(QueriedStatus::NeverReceived, |(_, standing)| standing);
                    return IntentAnswer { intent: self.intent, standing: Some(standing) };
                }
                Err(error) => {
                    if !said {
                        info!(step = %self.intent.step, host = %self.intent.host, why = %error, "waiting for the agent's answer");
                        said = true;
                    }
                }
            }
            tokio::time::sleep(ASK_AGAIN_AFTER).await;
        }
        IntentAnswer { intent: self.intent, standing: None }
    }
}
