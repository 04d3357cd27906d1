//! Requests to registries, which Docker makes with its own trust. A login goes with one request and is stored nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::errors::Error as Bollard;
use bollard::query_parameters::{CreateImageOptionsBuilder, TagImageOptionsBuilder};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use lockstep_core::id::Digest;
use lockstep_core::image::{self, Login, RegistryName, check_image};
use lockstep_core::secret::redact::Redactor;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{Docker, DockerError};

/// How long a registry may take to answer.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// The maximum size of Docker's answer to a login.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The address of the default registry in a login.
const DEFAULT_SERVER: &str = "https://index.docker.io/v1/";

/// The header with a login for the engine.
const LOGIN_HEADER: &str = "x-registry-auth";

impl Docker {
    /// Checks that the registry accepts the login.
    ///
    /// # Errors
    /// When it does not, or does not answer.
    pub async fn log_in(&self, login: &Login) -> Result<(), DockerError> {
        let version = self.client().await?.client_version();
        let body = serde_json::json!({
            "username": login.username,
            "password": login.password.expose(),
            "serveraddress": server(&login.registry),
        });
        let request = Request::post(format!("/v{}.{}/auth", version.major_version, version.minor_version))
            .header(HOST, "docker")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .expect("a constant path and constant headers make a request");
        let answered = timeout(ASK_LIMIT, self.send_to_engine(request)).await;
        let said = match answered {
            Ok(Ok((status, _))) if status.is_success() => return Ok(()),
            Ok(Ok((_, said))) => said,
            Ok(Err(why)) => why,
            Err(_) => format!("no answer within {} s", ASK_LIMIT.as_secs()),
        };
        Err(request_failed(&login.registry, Some(login), &said))
    }

    /// The manifest of this name in its registry.
    ///
    /// # Errors
    /// When the registry has none, denies access, or does not answer.
    pub async fn manifest(&self, reference: &str, login: Option<&Login>) -> Result<Digest, DockerError> {
        check_image(reference)?;
        let registry = RegistryName::of_image(reference);
        let client = self.client().await?;
        let asking = client.inspect_registry_image(reference, login.map(credentials));
        let said = match timeout(ASK_LIMIT, asking).await {
            Ok(Ok(found)) => match found.descriptor.digest.as_deref().map(str::parse) {
                Some(Ok(manifest)) => return Ok(manifest),
                Some(Err(_)) | None => "the answer has no manifest".to_owned(),
            },
            Ok(Err(Bollard::DockerResponseServerError { message, .. })) => message,
            Ok(Err(error)) => return Err(self.absent(error)),
            Err(_) => format!("no answer within {} s", ASK_LIMIT.as_secs()),
        };
        Err(request_failed(&registry, login, &said))
    }

    /// Pulls `reference`, and calls `on_status` with each new status.
    ///
    /// # Errors
    /// When the registry or the engine refuses.
    pub async fn pull(
        &self,
        reference: &str,
        login: Option<&Login>,
        mut on_status: impl FnMut(&str),
    ) -> Result<(), DockerError> {
        let options = CreateImageOptionsBuilder::default().from_image(reference).build();
        let mut states = self.client().await?.create_image(Some(options), None, login.map(credentials));
        while let Some(state) = states.next().await {
            match state {
                Ok(state) => state.status.iter().for_each(|status| on_status(status)),
                Err(Bollard::DockerResponseServerError { message, .. }) => {
                    return Err(request_failed(&RegistryName::of_image(reference), login, &message));
                }
                Err(Bollard::DockerStreamError { error }) => {
                    return Err(request_failed(&RegistryName::of_image(reference), login, &error));
                }
                Err(error) => return Err(self.absent(error)),
            }
        }
        Ok(())
    }

    /// Pulls exactly this manifest, and tags it with `reference`.
    ///
    /// # Errors
    /// When the registry or the engine refuses.
    pub async fn pull_manifest(
        &self,
        reference: &str,
        manifest: &Digest,
        login: Option<&Login>,
        on_status: impl FnMut(&str),
    ) -> Result<(), DockerError> {
        let pinned = image::pinned(reference, manifest);
        self.pull(&pinned, login, on_status).await?;
        let Some(tag) = image::tag(reference) else { return Ok(()) };
        let options = TagImageOptionsBuilder::default().repo(image::repository(reference)).tag(tag).build();
        let named = self.client().await?.tag_image(&pinned, Some(options)).await;
        named.map_err(self.refused(format!("to tag {pinned} as {reference}")))
    }

    /// Sends one request to the engine. Returns the status and the message.
    async fn send_to_engine(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(hyper::StatusCode, String), String> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let asked = async {
            let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            let json: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
            let said = json.as_ref().and_then(|json| json.get("message")?.as_str());
            Ok((status, said.map_or_else(|| String::from_utf8_lossy(&body).into_owned(), str::to_owned)))
        };
        tokio::pin!(asked);
        tokio::select! {
            answer = &mut asked => answer,
            // A connection that ends may have left an answer.
            _ = connection => asked.await,
        }
    }
}

/// Rewrites a login in the Base64 alphabet for URLs. The engine reads that one and ignores a login that it cannot read;
/// the client writes the other. They differ for passwords with `?`, `>` or `~`, and for any that is not ASCII.
pub(super) fn in_url_alphabet(mut request: bollard::BollardRequest) -> bollard::BollardRequest {
    if let Some(header) = request.headers_mut().get_mut(LOGIN_HEADER) {
        let bytes: Vec<u8> = header.as_bytes().iter().map(|byte| url_letter(*byte)).collect();
        if let Ok(mut value) = HeaderValue::from_bytes(&bytes) {
            value.set_sensitive(true);
            *header = value;
        }
    }
    request
}

fn url_letter(letter: u8) -> u8 {
    match letter {
        b'+' => b'-',
        b'/' => b'_',
        letter => letter,
    }
}

fn credentials(login: &Login) -> DockerCredentials {
    DockerCredentials {
        username: Some(login.username.clone()),
        password: Some(login.password.expose().to_owned()),
        serveraddress: Some(server(&login.registry).to_owned()),
        ..DockerCredentials::default()
    }
}

fn server(registry: &RegistryName) -> &str {
    if registry.is_default() { DEFAULT_SERVER } else { registry.as_str() }
}

/// The error of a request, with the password redacted: a registry may quote what it received.
fn request_failed(registry: &RegistryName, login: Option<&Login>, said: &str) -> DockerError {
    let said = match login {
        None => said.to_owned(),
        Some(login) => {
            let known = BTreeMap::from([("password".to_owned(), login.password.clone())]);
            Redactor::new(&known, &BTreeSet::new()).redact(said)
        }
    };
    let login_name = login.map_or_else(|| "anonymous".to_owned(), |login| format!("as {}", login.username));
    DockerError::Registry { registry: registry.clone(), login_name, said: said.trim().to_owned() }
}
