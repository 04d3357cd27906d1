//! Replies of the coordinator: reading their documents, and showing what was done.

use lockstep_core::stored::StoredDocument;
use lockstep_core::time::Timestamp;
use lockstep_proto::wire;
use lockstep_proto::wire::Document;
use serde_json::json;

use crate::context::Context;
use crate::failure::{Failure, Kind, Result};
use crate::this_machine::is_of_this_machine;

/// Reads a document of a reply.
pub(super) fn read<T: StoredDocument>(document: Option<&Document>) -> Result<T> {
    lockstep_proto::convert::required(document, "answer").map_err(|invalid| {
        Failure::new(Kind::Unreachable, "the reply of the coordinator cannot be read")
            .why(invalid.to_string())
            .next("lockstep doctor")
    })
}

pub(super) fn read_all<T: StoredDocument>(documents: &[Document]) -> Result<Vec<T>> {
    documents.iter().map(|document| read(Some(document))).collect()
}

/// Shows what the coordinator did.
pub(super) fn show_done(context: &Context, done: &wire::Done) -> Result<()> {
    context.output.json(&json!({ "said": done.said }))?;
    context.output.line(&done.said)
}

/// Shows a one-time token, and the `command` that reads it from standard input.
pub(super) fn show_token(context: &Context, reply: &wire::TokenReply, command: &str) -> Result<()> {
    context.output.json(&json!({ "token": reply.token, "expires_ms": reply.expires_ms }))?;
    context.output.verbatim(&reply.token)?;
    context.output.line(&format!(
        "The token works once, until {}. Pass it on standard input to:",
        Timestamp(reply.expires_ms)
    ))?;
    context.output.verbatim(&format!("  {command}"))
}

/// Says so if the address of the coordinator, which is in what is printed, is one that other machines do not reach.
pub(super) fn note_if_unreachable(context: &Context, address: &str) {
    if is_of_this_machine(address) {
        context.output.remark(&format!(
            "note: other machines do not reach {address}. For them, let the coordinator listen on an address that they \
             reach, as in: lockstep up --listen 10.0.0.5:7443"
        ));
    }
}

/// A word in quotes if a shell would change it.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".:-_".contains(c);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{word}'") }
}
