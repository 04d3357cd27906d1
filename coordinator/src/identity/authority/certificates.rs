//! The content of each kind of certificate.

use lockstep_core::access::Identity;
use lockstep_core::id::ClusterId;
use lockstep_core::time::{Millis, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType, SerialNumber,
};
use time::OffsetDateTime;

use super::{AuthorityError, ISSUING_LIFE, ROOT_LIFE};
use crate::identity::certificate;
use crate::identity::certificate::BACKDATED;
use crate::identity::certificate::IssuingName;

const SERIAL_BYTES: usize = 16;

pub(super) fn root(cluster: &ClusterId, now: Timestamp) -> Result<CertificateParams, AuthorityError> {
    // An issuing authority, then a leaf.
    authority(certificate::root_name(cluster), now + ROOT_LIFE, (1, now))
}

/// The key of the root that comes next, as the one before it signs it. Both have the name of the cluster, so that this
/// counts as no authority of its own where the length of a path is limited.
pub(super) fn bridge(cluster: &ClusterId, now: Timestamp) -> Result<CertificateParams, AuthorityError> {
    let mut parameters = root(cluster, now)?;
    parameters.use_authority_key_identifier_extension = true;
    Ok(parameters)
}

pub(super) fn issuing(name: &IssuingName, now: Timestamp) -> Result<CertificateParams, AuthorityError> {
    let mut parameters = authority(name.to_string(), now + ISSUING_LIFE, (0, now))?;
    parameters.use_authority_key_identifier_extension = true;
    Ok(parameters)
}

/// Of an authority with so many others below it, made now.
fn authority(
    name: String,
    until: Timestamp,
    (below, now): (u8, Timestamp),
) -> Result<CertificateParams, AuthorityError> {
    let mut parameters = since(now, until)?;
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(parameters)
}

/// Of nobody yet: from somewhat before now, with a number of its own.
fn since(now: Timestamp, until: Timestamp) -> Result<CertificateParams, AuthorityError> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.not_before = moment(Timestamp(now.0.saturating_sub(BACKDATED.0)));
    parameters.not_after = moment(until);
    parameters.serial_number = Some(serial()?);
    Ok(parameters)
}

pub(super) fn leaf(
    cluster: &ClusterId,
    identity: &Identity,
    now: Timestamp,
    life: Millis,
) -> Result<CertificateParams, AuthorityError> {
    let mut parameters = since(now, now + life)?;
    parameters.subject_alt_names = vec![SanType::URI(uri(cluster, identity).as_str().try_into()?)];
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = match identity {
        Identity::Coordinator(_) => {
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
        }
        Identity::Agent(_) | Identity::Operator(_) | Identity::Nobody => {
            vec![ExtendedKeyUsagePurpose::ClientAuth]
        }
    };
    Ok(parameters)
}

/// How a certificate names its owner: <https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md>.
pub(super) fn uri(cluster: &ClusterId, identity: &Identity) -> String {
    match identity {
        Identity::Nobody => format!("spiffe://{cluster}/nobody"),
        Identity::Agent(host) => format!("spiffe://{cluster}/agent/{host}"),
        Identity::Operator(name) => format!("spiffe://{cluster}/operator/{name}"),
        Identity::Coordinator(id) => format!("spiffe://{cluster}/coordinator/{id}"),
    }
}

fn serial() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0; SERIAL_BYTES];
    getrandom::fill(&mut bytes).map_err(|_| AuthorityError::Chance)?;
    // RFC 5280: a serial number is positive. With this bit it is also always as long.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn moment(at: Timestamp) -> OffsetDateTime {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
