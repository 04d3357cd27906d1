//! The load against servers that behave in one way each.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const GOOD: &str = "HTTP/1.1 200 OK\r\nX-Version: 7\r\nContent-Length: 2\r\n\r\nok";
const BAD: &str = "HTTP/1.1 502 Bad Gateway\r\nX-Version: 7\r\nContent-Length: 2\r\n\r\nno";
const LAST: &str = "HTTP/1.1 200 OK\r\nX-Version: 8\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";

#[derive(Clone, Copy)]
enum After {
    KeepOpen,
    Close,
}

/// Answers each request of each connection with the same bytes.
async fn serve(answer: &'static str, after: After) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                let mut request = [0; 4096];
                while let Ok(1..) = stream.read(&mut request).await {
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                    match after {
                        After::KeepOpen => {}
                        After::Close => return,
                    }
                }
            });
        }
    });
    (address, server)
}

async fn load_until(settings: Settings, requests: u64) -> Report {
    let load = Load::start(settings).unwrap();
    let begun = Instant::now();
    while load.counts().requests < requests {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", load.counts());
        tokio::task::yield_now().await;
    }
    load.stop().await
}

fn settings(address: SocketAddr, rate_per_second: Option<u32>) -> Settings {
    let notes = Settings::notes(address, 1);
    Settings { rate_per_second, connections: 4, ..notes }
}

#[tokio::test]
async fn good_answers_are_counted_by_version() {
    let (address, _server) = serve(GOOD, After::KeepOpen).await;
    let report = load_until(settings(address, None), 1000).await;
    assert_eq!(report.failed, 0, "{:?}", report.failures);
    assert_eq!(report.by_version["7"], report.requests);
}

#[tokio::test]
async fn an_answer_that_is_not_2xx_is_a_failure() {
    let (address, _server) = serve(BAD, After::KeepOpen).await;
    let report = load_until(settings(address, Some(2000)), 50).await;
    assert_eq!(report.failed, report.requests);
    assert_eq!(report.failures[0].kind, FailureKind::Status);
    assert!(report.failures[0].detail.contains("502"), "{:?}", report.failures[0]);
}

#[tokio::test]
async fn a_refused_connection_is_a_failure_each_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let report = load_until(settings(address, Some(2000)), 50).await;
    assert_eq!(report.failed, report.requests);
    assert_eq!(report.failures[0].kind, FailureKind::Refused);
}

#[tokio::test]
async fn an_answer_cut_short_is_a_failure() {
    let short = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok";
    let (address, _server) = serve(short, After::Close).await;
    let report = load_until(settings(address, Some(2000)), 50).await;
    assert_eq!(report.failed, report.requests);
    assert_eq!(report.failures[0].kind, FailureKind::Reset);
}

#[tokio::test]
async fn connection_close_is_obeyed_without_a_failure() {
    let (address, _server) = serve(LAST, After::Close).await;
    let report = load_until(settings(address, Some(2000)), 200).await;
    assert_eq!(report.failed, 0, "{:?}", report.failures);
    assert_eq!(report.closed_while_idle, 0);
    assert_eq!(report.by_version["8"], report.requests);
}

#[tokio::test]
async fn the_rate_is_kept() {
    let (address, _server) = serve(GOOD, After::KeepOpen).await;
    let report = load_until(settings(address, Some(500)), 500).await;
    let rate = report.requests as f64 / report.seconds;
    // From above strictly; from below a busy machine may be in the way.
    assert!((100.0..560.0).contains(&rate), "{rate} requests/s");
}

#[test]
fn what_was_missed_is_made_up_for_only_a_little() {
    let begin = Instant::now();
    let mut pace = Pace { interval: Some(Duration::from_millis(10)), next: begin };
    assert_eq!(pace.next_turn(begin), Some(begin));
    let late = begin + Duration::from_secs(10);
    let at_once = std::iter::repeat_with(|| pace.next_turn(late))
        .take_while(|turn| turn.is_some_and(|turn| turn <= late))
        .count();
    assert_eq!(at_once, 6);
}
