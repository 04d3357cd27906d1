//! Finds out why there is no TLS connection to a member. The etcd client cannot tell: with TLS 1.3 a member refuses a
//! certificate only after the handshake, and its alert is lost if something was sent meanwhile. So the handshake is
//! repeated without sending anything.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rustls::CertificateError::{BadSignature, UnknownIssuer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const LIMIT: Duration = Duration::from_secs(2);

/// Certificates and the key, in PEM.
pub(super) struct Pem {
    pub(super) ca: String,
    pub(super) certificate: String,
    pub(super) key: String,
}

/// What a handshake says of the two ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Handshake {
    /// Nothing that somebody would have to change.
    Unsuspicious,
    /// The member is not of the authority that is trusted.
    OtherAuthority,
    /// The member's certificate is of the authority, and not good for another reason.
    BadCertificate(String),
    /// The member does not want our certificate.
    WeAreRefused(String),
}

pub(super) async fn handshake(endpoint: &str, pem: &Pem) -> Result<Handshake, rustls::Error> {
    let connector = TlsConnector::from(Arc::new(config(pem)?));
    // A member that is frozen lets itself be connected to, and says nothing.
    Ok(tokio::time::timeout(LIMIT, shake(endpoint, &connector)).await.unwrap_or(Handshake::Unsuspicious))
}

async fn shake(endpoint: &str, connector: &TlsConnector) -> Handshake {
    let authority = endpoint.parse::<Uri>().ok().and_then(|uri| uri.into_parts().authority);
    let Some(authority) = authority else { return Handshake::Unsuspicious };
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let (Ok(name), Ok(tcp)) = (ServerName::try_from(host), TcpStream::connect(authority.as_str()).await)
    else {
        return Handshake::Unsuspicious;
    };
    let mut stream = match connector.connect(name, tcp).await {
        Ok(stream) => stream,
        Err(error) => return meaning(&error),
    };
    // Whoever takes our certificate speaks first in HTTP/2.
    match stream.read(&mut [0; 1]).await {
        Ok(_) => Handshake::Unsuspicious,
        Err(error) => meaning(&error),
    }
}

fn meaning(error: &std::io::Error) -> Handshake {
    match error.get_ref().and_then(|inside| inside.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature)) => Handshake::OtherAuthority,
        Some(rustls::Error::InvalidCertificate(why)) => Handshake::BadCertificate(why.to_string()),
        Some(rustls::Error::AlertReceived(alert)) => Handshake::WeAreRefused(format!("{alert:?}")),
        Some(_) | None => Handshake::Unsuspicious,
    }
}

fn config(pem: &Pem) -> Result<ClientConfig, rustls::Error> {
    let unusable = |error: rustls::pki_types::pem::Error| rustls::Error::General(error.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.ca.as_bytes()) {
        roots.add(certificate.map_err(unusable)?)?;
    }
    let chain = CertificateDer::pem_slice_iter(pem.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(unusable)?;
    let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).map_err(unusable)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
