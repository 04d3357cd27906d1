//! Transfers images through a coordinator, in the format of `docker save`: in parts, and never whole in memory.

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use lockstep_core::id::Digest;
use lockstep_proto::dial::{self, Credential};
use lockstep_proto::wire;
use lockstep_proto::wire::session_client::SessionClient;
use tokio::sync::watch;
use tonic::Code;
use tonic::transport::Channel;

/// Transfers images over connections of their own: an image must not delay the session.
#[derive(Clone)]
pub struct TransferClient {
    pub coordinators: watch::Receiver<Vec<String>>,
    pub credential: watch::Receiver<Credential>,
}

impl TransferClient {
    /// The image from a host that has it; `None` if no host has it.
    ///
    /// # Errors
    /// When no coordinator is reachable, or it refuses.
    pub async fn receive(
        &self,
        id: &Digest,
    ) -> Result<Option<impl Stream<Item = io::Result<Bytes>> + Send + use<>>, String> {
        let mut session = self.session("").await?;
        let request = wire::ImageWanted { image_id: id.to_string(), transfer: String::new() };
        match session.take_image(request).await {
            Ok(parts) => Ok(Some(complete_bytes(parts.into_inner()))),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status.message().to_owned()),
        }
    }

    /// The image that an operator sends by `transfer`, through the coordinator at `from`.
    ///
    /// # Errors
    /// When that coordinator is unreachable, or has no such transfer for this host.
    pub async fn receive_sent(
        &self,
        id: &Digest,
        (transfer, from): (&str, &str),
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>, String> {
        let mut session = self.session(from).await?;
        let request = wire::ImageWanted { image_id: id.to_string(), transfer: transfer.to_owned() };
        let parts = session.take_image(request).await.map_err(|status| status.message().to_owned())?;
        Ok(complete_bytes(parts.into_inner()))
    }

    /// Sends an image to the receiver of `transfer`, through the coordinator at `to`.
    ///
    /// # Errors
    /// When that coordinator is unreachable, the receiver is gone, or the image ends early.
    pub async fn send<E: Send + 'static>(
        &self,
        (transfer, to): (&str, &str),
        bytes: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Result<(), String> {
        let mut session = self.session(to).await?;
        let transfer = transfer.to_owned();
        let parts = stream::unfold(Some(Box::pin(bytes)), move |source| {
            let transfer = transfer.clone();
            async move {
                let mut source = source?;
                match source.next().await {
                    Some(Ok(bytes)) => {
                        Some((wire::ImagePart { transfer, bytes: bytes.into(), last: false }, Some(source)))
                    }
                    // Without its last part nobody takes it for whole.
                    Some(Err(_)) => None,
                    None => Some((wire::ImagePart { transfer, bytes: Vec::new(), last: true }, None)),
                }
            }
        });
        session.give_image(parts).await.map(|_| ()).map_err(|status| status.message().to_owned())
    }

    /// Connects to the coordinator at `address`; if that is empty, to the first that answers.
    async fn session(&self, address: &str) -> Result<SessionClient<Channel>, String> {
        let known = match address {
            "" => self.coordinators.borrow().clone(),
            address => vec![address.to_owned()],
        };
        let credential = self.credential.borrow().clone();
        let mut why = "no address of a coordinator is known".to_owned();
        for address in known {
            match dial::connect(&address, &credential).await {
                Ok(channel) => return Ok(SessionClient::new(channel)),
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    }
}

/// The bytes of the parts, with an error if the last part is missing.
fn complete_bytes(
    parts: impl Stream<Item = Result<wire::ImagePart, tonic::Status>> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold(Some(Box::pin(parts)), |source| async {
        let mut source = source?;
        match source.next().await {
            Some(Ok(part)) if part.last => None,
            Some(Ok(part)) => Some((Ok(Bytes::from(part.bytes)), Some(source))),
            Some(Err(status)) => Some((Err(io::Error::other(status.message().to_owned())), None)),
            None => Some((Err(io::Error::other("the transfer ended early")), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(bytes: &[u8]) -> Result<wire::ImagePart, tonic::Status> {
        Ok(wire::ImagePart { transfer: String::new(), bytes: bytes.to_vec(), last: bytes.is_empty() })
    }

    #[tokio::test]
    async fn what_breaks_off_is_not_taken_for_whole() {
        let all: Vec<_> = complete_bytes(stream::iter([part(b"ab"), part(b"c"), part(b"")])).collect().await;
        assert!(all.iter().all(Result::is_ok) && all.len() == 2, "{all:?}");
        let broken: Vec<_> = complete_bytes(stream::iter([part(b"ab"), part(b"c")])).collect().await;
        assert!(broken.last().unwrap().is_err(), "{broken:?}");
    }
}
