//! What a coordinator replies: its documents are read, and what it did is shown.

use lockstep_core::stored::StoredDocument;
use lockstep_core::time::Timestamp;
use lockstep_proto::wire;
use lockstep_proto::wire::Document;
use serde_json::json;

use crate::context::Context;
use crate::failure::{Failure, Kind, Result};

/// Reads a document of an answer.
pub(super) fn read<T: StoredDocument>(document: Option<&Document>) -> Result<T> {
    lockstep_proto::convert::required(document, "answer").map_err(|invalid| {
        Failure::new(Kind::Unreachable, "the coordinator's answer cannot be read").why(invalid.to_string())
    })
}

pub(super) fn read_all<T: StoredDocument>(documents: &[Document]) -> Result<Vec<T>> {
    documents.iter().map(|document| read(Some(document))).collect()
}

/// What the coordinator says that it did.
pub(super) fn show_done(context: &Context, done: &wire::Done) -> Result<()> {
    context.output.json(&json!({ "said": done.said }))?;
    context.output.line(&done.said)
}

pub(super) fn show_token(context: &Context, reply: &wire::TokenReply, command: &str) -> Result<()> {
    context.output.json(&json!({ "token": reply.token, "expires_ms": reply.expires_ms }))?;
    context.output.line(&reply.token)?;
    context.output.line(&format!(
        "good once, until {}; give it on standard input to: {command}",
        Timestamp(reply.expires_ms)
    ))
}
