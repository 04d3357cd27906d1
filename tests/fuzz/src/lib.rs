//! What the fuzz targets share: an input in parts, a folder in memory, and a server that answers with given bytes.

use std::cell::RefCell;
use std::fs;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// The line between the parts of an input, so that a corpus can be read and written by hand.
const BETWEEN: &str = "\n%%\n";

/// The parts of an input; those that are not there are empty.
pub fn parts<const COUNT: usize>(input: &str) -> [&str; COUNT] {
    let mut parts = input.splitn(COUNT, BETWEEN);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// As [`parts`], of an input that begins with one line of text and goes on with anything.
pub fn line_and_bytes(input: &[u8]) -> Option<(&str, &[u8])> {
    let end = input.iter().position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&input[..end]).ok()?, &input[end + 1..]))
}

/// A folder in memory, where the machine has one.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder")
}

/// Writes `content` to `path` with the mode of a private file.
pub fn write_private(path: &Path, content: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, content).expect("a file of a temporary folder");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("a file of a temporary folder");
}

/// A runtime of one thread; reading from files and blocking tasks have theirs.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A server on loopback that answers every connection with the same bytes, whatever it is asked.
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    answer: Rc<RefCell<Vec<u8>>>,
}

impl Server {
    pub fn start() -> Self {
        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).expect("a port of loopback");
        Self { runtime, listener, answer: Rc::default() }
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().expect("an address").port()
    }

    /// What `client` gives while the server answers with `answer`.
    pub fn answer_with<T>(&self, answer: &[u8], client: impl Future<Output = T>) -> T {
        answer.clone_into(&mut self.answer.borrow_mut());
        self.runtime.block_on(async {
            tokio::select! {
                given = client => given,
                never = self.serve() => match never {},
            }
        })
    }

    async fn serve(&self) -> std::convert::Infallible {
        loop {
            let Ok((stream, _)) = self.listener.accept().await else { continue };
            let answer = self.answer.borrow().clone();
            // A client may leave before it has read everything.
            answer_one(stream, &answer).await.ok();
        }
    }
}

/// Reads the request first: a socket that is closed with unread bytes takes the answer back.
async fn answer_one(mut stream: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(answer).await?;
    stream.shutdown().await
}
