//! A step, as a coordinator assigned it to this host.

use lockstep_core::agent::fence::Token;
use lockstep_core::id::Digest;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::Action;
use lockstep_core::run::journal::StepKey;
use lockstep_core::time::Millis;

/// One assignment. The same key is the same work, whoever sends it and under whatever token.
#[derive(Debug, Clone)]
pub struct Assignment {
    pub token: Token,
    pub key: StepKey,
    pub environment: EnvironmentKey,
    /// `None` if the agent only has to make sure that the step's "do" has ended and will not begin.
    pub action: Option<Action>,
    /// The step is stopped after this long, counted from its beginning.
    pub limit: Millis,
    /// W3C Trace Context of the step's span.
    pub traceparent: String,
}

impl Assignment {
    /// The digest that identifies the work: the environment, the step and its whole action.
    pub fn digest(&self) -> Digest {
        let action = self.action.as_ref().map(Action::digest);
        let action = action.as_ref().map_or("nothing", Digest::as_str);
        Digest::of_content(format!("{}\n{}\n{action}", self.environment, self.key).as_bytes())
    }
}
