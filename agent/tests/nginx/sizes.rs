//! How large headers may be, and which requests count as lost.

use std::fs;
use std::time::Duration;

use lockstep_core::plan::action::Site;
use lockstep_core::time::Millis;

use crate::server::{Application, Server, ask, free_port, send, status_of};
use crate::sites::{assert_lost, certificate_of, environment, install, site};

const GET: &str = "GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n";

/// An application with so many bytes of headers that nobody knows.
fn with_headers(bytes: usize) -> Application {
    let value = "x".repeat(bytes);
    Application::answering(move |_| {
        Some(format!("HTTP/1.1 200 OK\r\nX-Large: {value}\r\nContent-Length: 2\r\n\r\nok").into_bytes())
    })
}

async fn assert_served(bytes: usize) {
    let (server, application) = (Server::start(), with_headers(bytes));
    let site = site(&[application.address]);
    install(&server, 1, &site).await;
    let answer = send(site.listen_port, GET);
    assert_eq!(status_of(&answer), 200, "{} of nginx", fs::read_to_string(server.path("error.log")).unwrap());
    assert!(answer.contains(&"x".repeat(bytes)) && answer.ends_with("ok"));
    assert_lost(&server, 0).await;
}

#[tokio::test]
async fn an_answer_with_headers_of_4_kib_is_served() {
    assert_served(4 * 1024).await;
}

#[tokio::test]
async fn an_answer_with_headers_of_6_000_bytes_is_served() {
    assert_served(6_000).await;
}

#[tokio::test]
async fn an_answer_with_headers_of_16_kib_is_served() {
    assert_served(16 * 1024).await;
}

#[tokio::test]
async fn an_answer_with_headers_of_32_kib_is_served() {
    assert_served(32 * 1024).await;
}

#[tokio::test]
async fn two_hundred_cookies_are_served() {
    let cookies = format!("Set-Cookie: a={}; Path=/\r\n", "x".repeat(100)).repeat(200);
    let application =
        Application::answering(move |_| Some(format!("HTTP/1.0 200 OK\r\n{cookies}\r\nok").into_bytes()));
    let server = Server::start();
    let site = site(&[application.address]);
    install(&server, 1, &site).await;
    assert_eq!(ask(site.listen_port, "GET"), (200, "ok".to_owned()));
}

#[tokio::test]
async fn large_headers_are_served_with_a_certificate() {
    let (server, application) = (Server::start(), with_headers(30 * 1024));
    let site = Site { tls: Some(Box::new(certificate_of(&server, "notes"))), ..site(&[application.address]) };
    install(&server, 1, &site).await;
    let at = server.nginx.address(&environment()).unwrap();
    let answered = server.nginx.ask(&at, "/", Duration::from_secs(5)).await.unwrap();
    assert_eq!(answered.headers.get("X-Large").unwrap().len(), 30 * 1024, "{}", answered.probe);
}

#[tokio::test]
async fn headers_that_nginx_refuses_count_as_lost() {
    let (server, application) = (Server::start(), with_headers(100_000));
    let site = site(&[application.address]);
    install(&server, 1, &site).await;
    assert_eq!(ask(site.listen_port, "GET").0, 502);
    assert_lost(&server, 1).await;
}

async fn assert_answered(answer: &'static str, status: u16, wanted: u64) {
    let server = Server::start();
    let application = Application::answering(move |_| Some(answer.as_bytes().to_vec()));
    let site = site(&[application.address]);
    install(&server, 1, &site).await;
    assert_eq!(ask(site.listen_port, "GET").0, status);
    assert_lost(&server, wanted).await;
}

#[tokio::test]
async fn headers_without_their_end_count_as_lost() {
    assert_answered("HTTP/1.1 200 OK\r\nContent-", 502, 1).await;
}

#[tokio::test]
async fn what_is_no_http_header_counts_as_lost() {
    assert_answered("HTTP/1.1 200 OK\r\n\u{1}: a\r\n\r\n", 502, 1).await;
}

#[tokio::test]
async fn a_502_that_the_application_gave_is_not_lost() {
    assert_answered("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", 502, 0).await;
}

#[tokio::test]
async fn a_504_that_the_application_gave_is_not_lost() {
    assert_answered("HTTP/1.0 504 Gateway Timeout\r\n\r\nlate", 504, 0).await;
}

#[tokio::test]
async fn a_500_that_the_application_gave_is_not_lost() {
    assert_answered("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", 500, 0).await;
}

#[tokio::test]
async fn a_request_that_nobody_answers_in_time_is_lost() {
    let server = Server::start();
    let application = Application::answering(|_| None);
    let site = Site { read_timeout: Millis(200), ..site(&[application.address]) };
    install(&server, 1, &site).await;
    assert_eq!(ask(site.listen_port, "GET").0, 504);
    assert_lost(&server, 1).await;
}

#[tokio::test]
async fn of_two_hosts_the_one_that_answered_502_itself_answered() {
    let server = Server::start();
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 2], free_port()));
    let application =
        Application::answering(|_| Some(b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n".to_vec()));
    let site = site(&[nobody, application.address]);
    install(&server, 1, &site).await;
    for _ in 0..10 {
        assert_eq!(ask(site.listen_port, "GET").0, 502);
    }
    assert_lost(&server, 0).await;
}

fn get_with(header: &str) -> String {
    format!("GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n{header}\r\n\r\n")
}

#[tokio::test]
async fn a_request_with_a_header_of_9_000_bytes_is_served() {
    let (server, application) = (Server::start(), Application::start("127.0.0.1", 0));
    let site = site(&[application.address]);
    install(&server, 1, &site).await;
    let cookie = format!("Cookie: a={}", "x".repeat(9_000));
    assert_eq!(status_of(&send(site.listen_port, &get_with(&cookie))), 200);
}

#[tokio::test]
async fn a_request_with_a_header_of_30_kib_is_served() {
    let (server, application) = (Server::start(), Application::start("127.0.0.1", 0));
    let site = site(&[application.address]);
    install(&server, 1, &site).await;
    let cookie = format!("Cookie: a={}", "x".repeat(30 * 1024));
    assert_eq!(status_of(&send(site.listen_port, &get_with(&cookie))), 200);
}

async fn assert_taken(file: &str, text: &str) {
    let (server, application) = (Server::start(), Application::start("127.0.0.1", 0));
    let path = server.path(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    let site = site(&[application.address]);
    install(&server, 1, &site).await;
    assert_eq!(ask(site.listen_port, "GET").0, 200);
}

const ADDITION: &str = "sites/lockstep-notes-production.d/own.conf";

#[tokio::test]
async fn an_addition_may_say_the_sizes_too() {
    let text = "proxy_buffer_size 16k;\nproxy_buffers 4 16k;\nproxy_busy_buffers_size 16k;\nlarge_client_header_buffers 4 16k;\n";
    assert_taken(ADDITION, text).await;
}

#[tokio::test]
async fn an_addition_may_say_small_buffers_of_one_place() {
    assert_taken(ADDITION, "location /a { proxy_pass http://127.0.0.1:1; proxy_buffers 8 4k; }\n").await;
}

#[tokio::test]
async fn the_hosts_proxy_params_may_say_small_buffers() {
    assert_taken("proxy_params", "proxy_set_header Host $host;\nproxy_buffers 8 4k;\n").await;
}

#[tokio::test]
async fn the_hosts_proxy_params_may_say_large_buffers() {
    let text = "proxy_buffer_size 128k;\nproxy_buffers 4 256k;\nproxy_busy_buffers_size 256k;\n";
    assert_taken("proxy_params", text).await;
}
