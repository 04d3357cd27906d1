//! A private nginx, and what it sends requests to.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lockstep_agent::journal::object_names::ObjectNames;
use lockstep_agent::nginx::Nginx;
use lockstep_agent::program::settings::NginxSettings;
use rustix::net::{AddressFamily, SocketType};

const LIMIT: Duration = Duration::from_secs(10);

/// How long a connection may take that somebody accepts.
const CONNECT_LIMIT: Duration = Duration::from_millis(200);

/// Waits for a condition, for as long as it may take.
#[expect(clippy::disallowed_methods, reason = "this is the waiting that everything else uses")]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT, "it was not so that {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The binary of the system with a prefix of its own, and the agent's view of it.
pub(crate) struct Server {
    pub(crate) nginx: Nginx,
    pub(crate) directory: tempfile::TempDir,
    master: Child,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(ObjectNames::default())
    }

    /// Where the objects of environments are called so.
    pub(crate) fn start_with(object_names: ObjectNames) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        // Its workers look for the switch file.
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
        for folder in ["sites", "temp"] {
            fs::create_dir(root.join(folder)).unwrap();
        }
        fs::write(root.join("nginx.conf"), configuration(root)).unwrap();
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-p").arg(root).arg("-c").arg(root.join("nginx.conf"));
        command.arg("-e").arg(root.join("error.log")).args(["-g", "daemon off;"]);
        let master = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pid = root.join("nginx.pid");
        wait_until("nginx runs", || fs::read_to_string(&pid).is_ok_and(|pid| !pid.trim().is_empty()));
        let settings = NginxSettings {
            binary: "/usr/sbin/nginx".into(),
            configuration: root.join("nginx.conf"),
            sites: root.join("sites"),
            logs: root.to_owned(),
        };
        Self { nginx: Nginx::new(&settings, root.join("traffic"), object_names), directory, master }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// As the agent reads them.
    pub(crate) fn settings(&self) -> String {
        let root = self.directory.path().display();
        format!(
            "[nginx]\nconfiguration = \"{root}/nginx.conf\"\nsites = \"{root}/sites\"\nlogs = \"{root}\"\n"
        )
    }

    pub(crate) fn site(&self) -> PathBuf {
        self.path("sites/lockstep-notes-production.conf")
    }
}

impl Drop for Server {
    #[expect(clippy::let_underscore_must_use, reason = "a test that fails should say why, and not this")]
    fn drop(&mut self) {
        // Only the master ends its workers, so it is asked and not killed.
        if let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(self.master.id()).unwrap_or_default())
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.master.wait();
    }
}

fn configuration(root: &Path) -> String {
    let root = root.display();
    let user = if rustix::process::geteuid().is_root() { "user www-data;\n" } else { "" };
    format!(
        "{user}worker_processes 2;
pid {root}/nginx.pid;
error_log {root}/error.log notice;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {root}/temp/body;
    proxy_temp_path {root}/temp/proxy;
    fastcgi_temp_path {root}/temp/fastcgi;
    uwsgi_temp_path {root}/temp/uwsgi;
    scgi_temp_path {root}/temp/scgi;
    include {root}/sites/*.conf;
}}
"
    )
}

/// What an application does with a request, of which it sees the headers.
type Answers = dyn Fn(&str) -> Reply + Send;

enum Reply {
    /// It answers and closes.
    Whole(Vec<u8>),
    /// It begins to answer, and the connection goes on.
    Begun(Vec<u8>),
}

/// An application: it answers everything with its own address, or as a test says.
pub(crate) struct Application {
    pub(crate) address: SocketAddr,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Application {
    /// On a port of its own, or on the one that it had.
    pub(crate) fn start(address: &str, port: u16) -> Self {
        let listener = listen(address, port);
        let address = listener.local_addr().unwrap().to_string();
        let length = address.len();
        let answer =
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{address}");
        Self::serve(listener, Box::new(move |_| Reply::Whole(answer.clone().into_bytes())))
    }

    /// Which answers a request, of which it sees the headers, in this way; or never.
    pub(crate) fn answering(answers: impl Fn(&str) -> Option<Vec<u8>> + Send + 'static) -> Self {
        let answers = move |request: &str| answers(request).map_or(Reply::Begun(Vec::new()), Reply::Whole);
        Self::serve(listen("127.0.0.1", 0), Box::new(answers))
    }

    /// Which answers this, and there is more to come.
    pub(crate) fn beginning(begin: &'static str) -> Self {
        let answers = move |_: &str| Reply::Begun(begin.as_bytes().to_vec());
        Self::serve(listen("127.0.0.1", 0), Box::new(answers))
    }

    fn serve(listener: TcpListener, answers: Box<Answers>) -> Self {
        let address = listener.local_addr().unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let has_ended = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            let mut waiting = Vec::new();
            for stream in listener.incoming() {
                if has_ended.load(Ordering::SeqCst) {
                    break;
                }
                let mut stream = stream.unwrap();
                if !answer(&mut stream, &*answers) {
                    waiting.push(stream);
                }
            }
        });
        Self { address, ends, thread: Some(thread) }
    }
}

fn listen(address: &str, port: u16) -> TcpListener {
    let mut listener = None;
    // What was there before may have connections that end.
    wait_until("the port is free", || {
        listener = TcpListener::bind((address, port)).ok();
        listener.is_some()
    });
    listener.unwrap()
}

impl Drop for Application {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        // It waits for one more.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// One request a connection, so that nginx makes one for each. Says whether it is answered.
fn answer(stream: &mut TcpStream, answers: &Answers) -> bool {
    let mut read = Vec::new();
    let mut part = [0; 4096];
    while !read.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return true,
            Ok(count) => read.extend_from_slice(&part[..count]),
        }
    }
    let (answer, is_whole) = match answers(&String::from_utf8_lossy(&read)) {
        Reply::Whole(answer) => (answer, true),
        Reply::Begun(begin) => (begin, false),
    };
    // Who has gone needs no answer.
    stream.write_all(&answer).unwrap_or_default();
    is_whole
}

/// A host without power: whoever connects hears nothing at all.
pub(crate) struct Dark {
    pub(crate) address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Dark {
    /// Nobody takes connections out of its queue, which is full: packets of others are dropped.
    pub(crate) fn start(address: &str, port: u16) -> Self {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let wanted: SocketAddr = format!("{address}:{port}").parse().unwrap();
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        rustix::net::bind(&socket, &wanted).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
            waiting.push(stream);
            assert!(waiting.len() < 10, "its queue has no end");
        }
        Self { address, _listener: listener, _waiting: waiting }
    }
}

/// What `method /` is answered with through nginx: the status and the body.
pub(crate) fn ask(port: u16, method: &str) -> (u16, String) {
    let answer =
        send(port, &format!("{method} / HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\nhi"));
    (status_of(&answer), answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

/// What this very request is answered with through nginx, all of it.
pub(crate) fn send(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

pub(crate) fn status_of(answer: &str) -> u16 {
    answer.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap()
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
