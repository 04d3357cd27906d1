//! One look at a server: what is an answer, however the server ends it, and what is none.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use lockstep_agent::probe::{self, ProbeAnswer, ProbeRequest, Reads, Scheme};
use lockstep_core::health::{Answer, Health};
use lockstep_core::secret::redact::Redactor;

/// How a server ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It has read the request and closes.
    Closes,
    /// It has not read all of the request, so that the kernel resets the connection.
    Resets,
    /// It goes on with the connection, or hangs.
    Waits,
}

/// A server for one connection, which answers with these bytes whatever it is asked.
fn serve(answer: impl Into<Vec<u8>>, end: End) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = answer.into();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        match end {
            End::Closes | End::Waits => read_request(&mut stream),
            // One byte of it: the rest lies unread when the connection is closed.
            End::Resets => stream.read_exact(&mut [0]).unwrap(),
        }
        stream.write_all(&answer).unwrap();
        if end == End::Waits {
            // Until the client has gone.
            stream.read_to_end(&mut Vec::new()).unwrap_or_default();
        }
    });
    address
}

fn read_request(stream: &mut TcpStream) {
    let (mut read, mut part) = (Vec::new(), [0; 1024]);
    while !read.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "the client went before it had asked");
        read.extend_from_slice(&part[..count]);
    }
}

async fn ask_within(address: SocketAddr, limit: Duration) -> ProbeAnswer {
    let ask = ProbeRequest {
        address: "127.0.0.1",
        port: address.port(),
        host: "127.0.0.1",
        path: "/health",
        header: None,
        scheme: Scheme::Http,
        reads: Reads::Body,
        limit,
    };
    probe::send_probe(&ask).await
}

async fn ask(address: SocketAddr) -> ProbeAnswer {
    ask_within(address, Duration::from_secs(10)).await
}

/// The server's answer is healthy, with this body. Who comes first, the answer or the end of the connection, is
/// chance: it is asked often.
#[track_caller]
fn assert_healthy(answer: &str, end: End, body: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for _ in 0..20 {
        let probe = runtime.block_on(ask(serve(answer, end))).probe;
        let probe = probe.redacted(&Redactor::none());
        let Answer::Http { body: got, .. } = &probe.answer else { panic!("{probe}") };
        assert_eq!((probe.health(), got.as_str()), (Health::Healthy, body), "{probe}");
    }
}

/// The server's answer is none, because of this.
#[track_caller]
fn assert_nothing(answer: &str, end: End, why: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for _ in 0..20 {
        let probe = runtime.block_on(ask(serve(answer, end))).probe;
        assert_eq!(probe.health(), Health::Unhealthy, "{probe}");
        assert!(probe.to_string().contains(why), "{probe}");
    }
}

#[test]
fn http_1_0_with_a_length() {
    assert_healthy("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", End::Closes, "ok");
}

#[test]
fn http_1_0_with_a_body_up_to_the_end_of_the_connection() {
    assert_healthy("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nok", End::Closes, "ok");
}

#[test]
fn http_1_0_without_a_body() {
    assert_healthy("HTTP/1.0 200 OK\r\n\r\n", End::Closes, "");
}

#[test]
fn connection_close_with_a_length() {
    assert_healthy("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", End::Closes, "ok");
}

#[test]
fn connection_close_in_chunks() {
    let answer =
        "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    assert_healthy(answer, End::Closes, "ok");
}

#[test]
fn connection_close_with_a_body_up_to_the_end() {
    assert_healthy("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok", End::Closes, "ok");
}

#[test]
fn connection_close_with_an_empty_body() {
    assert_healthy("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", End::Closes, "");
}

#[test]
fn connection_close_without_content() {
    assert_healthy("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", End::Closes, "");
}

#[test]
fn a_connection_that_goes_on() {
    assert_healthy("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", End::Waits, "ok");
}

#[test]
fn closed_without_having_said_so() {
    assert_healthy("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", End::Closes, "ok");
}

#[test]
fn reset_after_a_whole_answer() {
    assert_healthy("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", End::Resets, "ok");
}

#[test]
fn reset_after_a_whole_answer_of_http_1_0() {
    assert_healthy("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", End::Resets, "ok");
}

#[test]
fn an_interim_100_is_not_the_answer() {
    let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok";
    assert_healthy(answer, End::Closes, "ok");
}

#[test]
fn an_interim_103_is_not_the_answer() {
    let answer = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    assert_healthy(answer, End::Closes, "ok");
}

#[test]
fn headers_of_32_kib() {
    let large = "x".repeat(32 * 1024);
    assert_healthy(
        &format!("HTTP/1.1 200 OK\r\nX-Large: {large}\r\nContent-Length: 2\r\n\r\nok"),
        End::Waits,
        "ok",
    );
}

#[test]
fn three_hundred_cookies() {
    let cookies = "Set-Cookie: a=b; Path=/\r\n".repeat(300);
    assert_healthy(&format!("HTTP/1.1 200 OK\r\n{cookies}Content-Length: 2\r\n\r\nok"), End::Waits, "ok");
}

#[test]
fn a_large_page() {
    let (page, shown) = ("x".repeat(100_000), "x".repeat(300));
    assert_healthy(&format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{page}"), End::Waits, &shown);
}

#[test]
fn a_very_large_page() {
    let (page, shown) = ("x".repeat(3_000_000), "x".repeat(300));
    assert_healthy(&format!("HTTP/1.0 200 OK\r\n\r\n{page}"), End::Closes, &shown);
}

/// Its `status` may come after what is read.
#[test]
fn json_of_which_not_all_is_read_says_nothing() {
    let rest = "x".repeat(3_000_000);
    let answer = format!("HTTP/1.0 200 OK\r\n\r\n {{\"rest\": \"{rest}\", \"status\": \"unhealthy\"}}");
    assert_nothing(&answer, End::Closes, "JSON of more than 1024 KiB");
}

#[test]
fn less_than_its_length_is_no_answer() {
    assert_nothing(
        "HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nok",
        End::Closes,
        "end of file before message length reached",
    );
}

#[test]
fn less_than_its_length_is_no_answer_of_http_1_0_either() {
    assert_nothing(
        "HTTP/1.0 200 OK\r\nContent-Length: 200\r\n\r\nok",
        End::Closes,
        "end of file before message length reached",
    );
}

#[test]
fn chunks_without_the_last_are_no_answer() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n";
    assert_nothing(answer, End::Closes, "unexpected EOF");
}

/// Where the end of the connection is that of the body, an end that is an error says that it is not all.
#[test]
fn a_body_up_to_a_reset_is_no_answer() {
    assert_nothing("HTTP/1.0 200 OK\r\n\r\nok", End::Resets, "reset");
}

#[test]
fn headers_without_their_end_are_no_answer() {
    assert_nothing("HTTP/1.1 200 OK\r\nContent-", End::Closes, "closed");
}

#[test]
fn a_connection_closed_at_once_is_no_answer() {
    assert_nothing("", End::Closes, "closed");
}

#[test]
fn what_is_no_http_is_no_answer() {
    assert_nothing("SSH-2.0-OpenSSH_9.2\r\n", End::Closes, "HTTP");
}

#[tokio::test]
async fn headers_that_never_end_are_no_answer_within_the_limit() {
    let address = serve("HTTP/1.1 200 OK\r\nContent-", End::Waits);
    let probe = ask_within(address, Duration::from_millis(200)).await.probe;
    assert_eq!(probe.answer, Answer::Nothing { why: "no answer within 200 ms".to_owned() });
}
