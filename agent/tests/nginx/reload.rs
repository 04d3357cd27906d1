//! What proves a reload: nginx itself, whatever the application behind it answers.

use std::fs;
use std::net::TcpListener;
use std::time::Instant;

use lockstep_agent::nginx::DesiredSite;
use lockstep_core::plan::action::Site;

use crate::server::{Application, Server};
use crate::sites::{certificate_of, deployment, environment, install, site};

/// The site is installed, and changed once, in front of an application that answers so.
async fn assert_installed(answers: impl Fn(&str) -> Option<Vec<u8>> + Send + 'static) {
    let (server, application) = (Server::start(), Application::answering(answers));
    let first = site(&[application.address]);
    install(&server, 1, &first).await;
    let second = Site { body_limit: "20m".to_owned(), ..first };
    install(&server, 2, &second).await;
}

async fn assert_installed_before(answer: impl Into<Vec<u8>>) {
    let answer = answer.into();
    assert_installed(move |_| Some(answer.clone())).await;
}

#[tokio::test]
async fn a_front_page_of_100_000_bytes() {
    let page = "x".repeat(100_000);
    assert_installed_before(format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{page}")).await;
}

#[tokio::test]
async fn a_front_page_that_takes_its_time() {
    assert_installed(|_| None).await;
}

#[tokio::test]
async fn a_front_page_that_never_ends() {
    let page = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n";
    let (server, application) = (Server::start(), Application::beginning(page));
    install(&server, 1, &site(&[application.address])).await;
}

#[tokio::test]
async fn a_front_page_that_is_elsewhere() {
    let answer = "HTTP/1.1 301 Moved\r\nLocation: https://notes.example/\r\nContent-Length: 0\r\n\r\n";
    assert_installed_before(answer).await;
}

#[tokio::test]
async fn a_front_page_that_asks_for_a_password() {
    assert_installed_before("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").await;
}

#[tokio::test]
async fn a_front_page_that_is_not_there() {
    assert_installed_before("HTTP/1.0 404 Not Found\r\n\r\nno").await;
}

#[tokio::test]
async fn a_front_page_that_fails() {
    assert_installed_before("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n").await;
}

#[tokio::test]
async fn a_front_page_with_headers_that_nginx_refuses() {
    let large = "x".repeat(100_000);
    assert_installed_before(format!("HTTP/1.1 200 OK\r\nX-Large: {large}\r\nContent-Length: 0\r\n\r\n"))
        .await;
}

#[tokio::test]
async fn an_application_that_is_not_there_yet() {
    let server = Server::start();
    install(&server, 1, &site(&["127.0.0.1:1".parse().unwrap()])).await;
}

#[tokio::test]
async fn additions_that_send_everybody_elsewhere() {
    let (server, application) = (Server::start(), Application::start("127.0.0.1", 0));
    let additions = server.path("sites/lockstep-notes-production.d");
    fs::create_dir_all(&additions).unwrap();
    fs::write(additions.join("own.conf"), "return 302 https://elsewhere.example/;\n").unwrap();
    install(&server, 1, &site(&[application.address])).await;
}

#[tokio::test]
async fn with_a_certificate() {
    let server = Server::start();
    let application = Application::answering(|_| None);
    let site = Site { tls: Some(Box::new(certificate_of(&server, "notes"))), ..site(&[application.address]) };
    install(&server, 1, &site).await;
}

async fn refused(server: &Server, site: &Site) -> (String, String) {
    let id = deployment(9);
    let wanted = DesiredSite { deployment: &id, site, overwrites: None };
    let failure = server.nginx.install(&environment(), &wanted).await.unwrap_err();
    (failure.why.unwrap_or_default(), failure.next.unwrap_or_default())
}

#[tokio::test]
async fn where_something_else_has_the_port_it_is_said() {
    let server = Server::start();
    let other = Application::start("127.0.0.1", 0);
    let site = Site { listen_port: other.address.port(), ..site(&[other.address]) };
    let begun = Instant::now();
    let (why, next) = refused(&server, &site).await;
    assert!(why.starts_with(&format!("port {} answered: 200", site.listen_port)), "{why}");
    assert!(next.contains("another program may use the port"), "{next}");
    assert!(begun.elapsed().as_secs() < 20);
    assert!(!server.site().exists(), "it is taken back");
}

#[tokio::test]
async fn what_something_else_says_is_shown_without_the_secret() {
    let server = Server::start();
    let other = Application::answering(|request| {
        let line = request.lines().next().unwrap_or_default();
        Some(format!("HTTP/1.0 404 Not Found\r\n\r\nCannot {line}").into_bytes())
    });
    let site = Site { listen_port: other.address.port(), ..site(&[other.address]) };
    let (why, _) = refused(&server, &site).await;
    let secret = fs::read_to_string(server.path("traffic/probe.secret")).unwrap();
    assert!(why.contains("404 Cannot GET /.lockstep-status-***") && !why.contains(&secret), "{why}");
}

#[tokio::test]
async fn where_something_else_has_the_port_and_is_silent_it_is_said() {
    let server = Server::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = listener.local_addr().unwrap();
    let site = Site { listen_port: other.port(), ..site(&[other]) };
    let (why, next) = refused(&server, &site).await;
    assert!(why.contains("no answer within"), "{why}");
    assert!(next.contains("another program may use the port"), "{next}");
}

#[tokio::test]
async fn where_another_site_has_the_name_and_port_it_is_said() {
    let (server, application) = (Server::start(), Application::start("127.0.0.1", 0));
    let first = site(&[application.address]);
    install(&server, 1, &first).await;
    // The same text under a name that nginx reads first.
    fs::copy(server.site(), server.path("sites/a.conf")).unwrap();
    let text = fs::read_to_string(server.path("sites/a.conf")).unwrap();
    let text = text.replace("notes_production", "other").replace("include ", "# ");
    fs::write(server.path("sites/a.conf"), text).unwrap();
    let (why, next) = refused(&server, &Site { body_limit: "20m".to_owned(), ..first.clone() }).await;
    let digest = first.digest();
    assert!(why.contains(&format!("serves the site {}", digest.short())), "{why}");
    assert!(next.contains("another site has the same name and port"), "{next}");
}
