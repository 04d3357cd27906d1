//! `[telemetry]` in the settings of a service, as typed and as checked: where traces and metrics go.

use std::path::PathBuf;

use http::Uri;
use serde::Deserialize;

/// `[telemetry]` as typed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Typed {
    /// The address of a collector that speaks OTLP over gRPC, such as `http://127.0.0.1:4317`.
    otlp: Option<String>,
    /// The authority of its certificate, if this machine does not trust it already.
    ca: Option<PathBuf>,
}

/// A collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Otlp {
    pub(crate) endpoint: String,
    pub(crate) ca: Option<PathBuf>,
}

impl Typed {
    /// The collector; `None` if none is set.
    ///
    /// # Errors
    /// All problems of the settings at once.
    pub fn checked(self) -> Result<Option<Otlp>, Vec<String>> {
        let Self { otlp, ca } = self;
        let mut problems = Vec::new();
        if let Some(endpoint) = otlp.as_deref().filter(|endpoint| !is_endpoint(endpoint)) {
            problems.push(format!(
                "telemetry.otlp is {endpoint:?}, and must be like \"http://127.0.0.1:4317\" or \
                 \"https://collector.example:4317\""
            ));
        }
        if let Some(ca) = &ca {
            if !ca.is_absolute() {
                problems.push(format!("telemetry.ca is {ca:?}, and must be an absolute path"));
            }
            if !otlp.as_deref().is_some_and(|endpoint| endpoint.starts_with("https://")) {
                problems.push("telemetry.ca has no effect without telemetry.otlp = \"https://…\"".to_owned());
            }
        }
        if problems.is_empty() { Ok(otlp.map(|endpoint| Otlp { endpoint, ca })) } else { Err(problems) }
    }
}

fn is_endpoint(endpoint: &str) -> bool {
    let authority = endpoint.parse::<Uri>().ok().and_then(|uri| uri.into_parts().authority);
    authority.is_some_and(|authority| {
        let has_host = !authority.as_str().contains('@') && !authority.host().is_empty();
        let has_port = authority.port_u16().is_some_and(|port| port != 0);
        let is_all = ["http", "https"].iter().any(|scheme| endpoint == format!("{scheme}://{authority}"));
        has_host && has_port && is_all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Typed {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_collector_is_where_the_file_says_and_there_is_none_otherwise() {
        assert_eq!(typed("").checked(), Ok(None));
        let there = typed("otlp = \"http://[::1]:4317\"").checked().unwrap().unwrap();
        assert_eq!((there.endpoint.as_str(), there.ca), ("http://[::1]:4317", None));
        assert!(typed("otlp = \"https://c.example:4317\"\nca = \"/ca.pem\"").checked().unwrap().is_some());
    }

    #[test]
    fn an_endpoint_that_no_client_can_dial_is_refused() {
        assert!(typed("otlp = \"http://[::1:4317\"").checked().is_err());
    }

    #[test]
    fn a_slash_at_the_end_is_refused() {
        assert!(typed("otlp = \"http://c.example:4317/\"").checked().is_err());
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        for wrong in
            ["127.0.0.1:4317", "http://c", "http://c:0", "grpc://c:1", "http://u:p@c:1", "http://c:1/v1"]
        {
            let said = typed(&format!("otlp = {wrong:?}\nca = \"ca.pem\"")).checked().unwrap_err().join("; ");
            for word in [wrong, "telemetry.ca is \"ca.pem\"", "has no effect"] {
                assert!(said.contains(word), "{word} is not in: {said}");
            }
        }
        assert!(toml::from_str::<Typed>("oltp = \"x\"").is_err());
    }
}
