//! Ends responses whose caller is no longer trusted, and all of them when the coordinator stops. A call is authorized
//! once, but a stream can last for hours.

use std::future::Future;
use std::time::Duration;

use futures::{StreamExt, stream};
use http::HeaderMap;
use http_body::{Body as _, Frame};
use http_body_util::{BodyStream, StreamBody};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::warn;

/// How often it is asked: less than the five seconds in which a revocation takes hold.
const ASKED_EVERY: Duration = Duration::from_secs(3);

/// `body`, until `admit` refuses its caller or the coordinator is `stopping`: then that is its end.
pub(super) fn unless_refused<F, Fut>(body: Body, stopping: CancellationToken, admit: F) -> Body
where
    F: Fn() -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Status>> + Send,
{
    if body.is_end_stream() {
        return body;
    }
    let refusal = Box::pin(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(ASKED_EVERY) => {}
                () = stopping.cancelled() => break Status::unavailable("the coordinator is stopping"),
            }
            match admit().await {
                // Whoever cannot be looked up is not refused: what goes on then is what was let in.
                Ok(()) => {}
                Err(status) if status.code() == Code::Unavailable => {}
                Err(status) => break status,
            }
        }
    });
    let frames = BodyStream::new(body);
    Body::new(StreamBody::new(stream::unfold(Some((frames, refusal)), |open| async move {
        let (mut frames, mut refusal) = open?;
        tokio::select! {
            biased;
            status = &mut refusal => Some((Ok(Frame::trailers(trailers(&status))), None)),
            frame = frames.next() => Some((frame?, Some((frames, refusal)))),
        }
    })))
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if let Err(error) = status.add_header(&mut trailers) {
        warn!(%error, "cannot send a refusal to the caller; the response ends without it");
    }
    trailers
}
