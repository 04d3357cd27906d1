//! What proves a switch: answers of the new slot's application through nginx, however large or slow they are.

use std::fs;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use lockstep_agent::executor::Executors;
use lockstep_agent::journal::object_names::ObjectNames;
use lockstep_agent::program::directory::Directory;
use lockstep_agent::program::identity::Identity;
use lockstep_agent::program::settings::Settings;
use lockstep_core::plan::action::{Endpoint, Site, SwitchTraffic};
use lockstep_core::run::journal::StepFailure;
use lockstep_core::slot::Slot;

use crate::server::{Application, Server};
use crate::sites::{environment, install, site};

/// A site with an application in each slot, and the executors of its host.
struct Switching {
    _server: Server,
    executors: Executors,
    site: Site,
}

impl Switching {
    async fn between(blue: SocketAddr, green: SocketAddr) -> Self {
        let server = Server::start();
        // The agent's folder has its switch files where the server's tests have theirs.
        let directory = Directory::open(server.directory.path()).unwrap();
        fs::write(directory.settings(), server.settings()).unwrap();
        let identity = Identity {
            cluster: "cl_01JBQR2KXYZ987654321012345".parse().unwrap(),
            host: "host_01JBQR2KXYZ987654321012345".parse().unwrap(),
            name: "app-1".parse().unwrap(),
            address: "127.0.0.1".to_owned(),
            coordinators: Vec::new(),
        };
        let settings = Settings::read(&directory.settings()).unwrap();
        let executors = Executors::new(&directory, &settings, &identity, ObjectNames::default());
        let site = Site { green: vec![endpoint(green)], ..site(&[blue]) };
        install(&server, 1, &site).await;
        Self { _server: server, executors, site }
    }

    fn to(&self, to: Slot) -> SwitchTraffic {
        SwitchTraffic {
            to,
            server_name: self.site.server_name.clone(),
            listen_port: self.site.listen_port,
            health_path: "/health".to_owned(),
            endpoints: self.site.endpoints_of(to).to_vec(),
            secrets_version: None,
        }
    }

    /// Green gets the traffic, and is then taken back.
    async fn switched_back(&self) -> Result<String, StepFailure> {
        self.executors.switch_by_hand(&environment(), &self.to(Slot::Green)).await.unwrap();
        self.executors.switch_back(&environment(), &self.to(Slot::Blue)).await
    }

    fn traffic(&self) -> Option<Slot> {
        self.executors.traffic_of(&environment())
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { address: address.ip().to_string(), port: address.port() }
}

/// Sends the traffic from a blue slot, whose application is `blue`, to a green one.
async fn switch(blue: SocketAddr, green: SocketAddr) -> Result<(), String> {
    let switching = Switching::between(blue, green).await;
    let switched = switching.executors.switch_by_hand(&environment(), &switching.to(Slot::Green)).await;
    switched.map_err(|failure| format!("{}: {}", failure.what, failure.why.unwrap_or_default()))
}

async fn assert_switched(answer: impl Into<Vec<u8>>) {
    let (blue, answer) = (Application::start("127.0.0.1", 0), answer.into());
    let green = Application::answering(move |_| Some(answer.clone()));
    assert_eq!(switch(blue.address, green.address).await, Ok(()));
}

#[tokio::test]
async fn to_a_large_answer() {
    let page = "x".repeat(3_000_000);
    assert_switched(format!("HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n{page}")).await;
}

#[tokio::test]
async fn to_an_answer_of_http_1_0() {
    assert_switched("HTTP/1.0 200 OK\r\n\r\nok").await;
}

#[tokio::test]
async fn to_an_answer_with_large_headers() {
    let large = "x".repeat(30 * 1024);
    assert_switched(format!("HTTP/1.1 200 OK\r\nX-Large: {large}\r\nContent-Length: 0\r\n\r\n")).await;
}

#[tokio::test]
async fn to_an_answer_that_never_ends() {
    let blue = Application::start("127.0.0.1", 0);
    // Its connections stay open after what it writes by itself.
    let green = Application::beginning("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n");
    assert_eq!(switch(blue.address, green.address).await, Ok(()));
}

#[tokio::test]
async fn to_an_answer_that_takes_its_time() {
    let blue = Application::start("127.0.0.1", 0);
    let green = Application::answering(|_| {
        // Nobody sends: it is the time that passes.
        let (_sender, receiver) = mpsc::channel::<()>();
        receiver.recv_timeout(Duration::from_millis(2_500)).unwrap_err();
        Some(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec())
    });
    assert_eq!(switch(blue.address, green.address).await, Ok(()));
}

#[tokio::test]
async fn not_to_an_application_that_fails() {
    let blue = Application::start("127.0.0.1", 0);
    let green = Application::answering(|_| Some(b"HTTP/1.0 500 Oh\r\n\r\n".to_vec()));
    let address = green.address.to_string();
    let why = switch(blue.address, green.address).await.unwrap_err();
    assert!(why.contains(&format!("the last answer came from {address}: 500")), "{why}");
}

#[tokio::test]
async fn back_to_a_release_that_is_not_healthy() {
    let blue = Application::answering(|_| Some(b"HTTP/1.0 503 No\r\n\r\n".to_vec()));
    let green = Application::start("127.0.0.1", 0);
    let switching = Switching::between(blue.address, green.address).await;
    let said = switching.switched_back().await.unwrap();
    assert!(said.contains("blue again, which is not healthy itself: 503"), "{said}");
    assert_eq!(switching.traffic(), Some(Slot::Blue));
}

#[tokio::test]
async fn not_back_to_a_release_that_does_not_answer_while_the_other_is_healthy() {
    let (blue, green) = (Application::start("127.0.0.1", 0), Application::start("127.0.0.1", 0));
    let switching = Switching::between(blue.address, green.address).await;
    drop(blue);
    let failure = switching.switched_back().await.unwrap_err();
    assert_eq!(failure.why.as_deref(), Some("the traffic stays in green, which is healthy"));
    assert_eq!(switching.traffic(), Some(Slot::Green));
}

#[tokio::test]
async fn back_to_a_release_that_does_not_answer_where_the_other_does_not_either() {
    let (blue, green) = (Application::start("127.0.0.1", 0), Application::start("127.0.0.1", 0));
    let switching = Switching::between(blue.address, green.address).await;
    switching.executors.switch_by_hand(&environment(), &switching.to(Slot::Green)).await.unwrap();
    drop((blue, green));
    let said = switching.executors.switch_back(&environment(), &switching.to(Slot::Blue)).await.unwrap();
    assert!(said.contains("not healthy itself: 502"), "{said}");
    assert_eq!(switching.traffic(), Some(Slot::Blue));
}
