//! A proxy that can hold back answers: the server gets the request, and the client gets no answer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What becomes of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    Pass,
    /// They wait until they may pass.
    Held,
}

/// Forwards connections until it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    answers: watch::Sender<Answers>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// A proxy on a port of its own for the server at `to`.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await?;
        let address = listener.local_addr()?;
        let (answers, seen) = watch::channel(Answers::Pass);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, to, seen));
        Ok(Self { address, answers, _tasks: tasks })
    }

    pub fn answers(&self, what: Answers) {
        self.answers.send_replace(what);
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, answers: watch::Receiver<Answers>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let answers = answers.clone();
        connections.spawn(async move {
            // A server that is away is a connection that ends at once.
            if let Ok(server) = TcpStream::connect(to).await {
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::select! {
                    () = copy(from_client, to_server, None) => {}
                    () = copy(from_server, to_client, Some(answers)) => {}
                }
            }
        });
    }
}

/// Until either end closes.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut gate: Option<watch::Receiver<Answers>>) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count) = from.read(&mut bytes).await {
        if count == 0 {
            return;
        }
        if let Some(gate) = &mut gate
            && gate.wait_for(|answers| *answers == Answers::Pass).await.is_err()
        {
            return;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
