//! The access log of an environment, what is counted in it, and a site that is taken down.

use std::fs;
use std::net::TcpStream;
use std::process::Command;

use lockstep_agent::nginx::{DesiredSite, SiteRevert};
use lockstep_core::plan::action::Site;
use lockstep_core::slot::Slot;

use crate::server::{Application, Server, ask, send, status_of, wait_until};
use crate::sites::{assert_counted, counted, deployment, environment, install, site};

fn get(site: &Site) -> u16 {
    status_of(&send(
        site.listen_port,
        "GET /notes?page=2 HTTP/1.0\r\nHost: 127.0.0.1\r\nUser-Agent: a test\r\n\r\n",
    ))
}

#[tokio::test]
async fn requests_of_another_environment_are_not_counted() {
    let server = Server::start();
    let application = Application::start("127.0.0.1", 0);
    let (ours, theirs) = (site(&[application.address]), site(&[application.address]));
    install(&server, 1, &ours).await;
    let other = "shop/production".parse().unwrap();
    let wanted = DesiredSite { deployment: &deployment(2), site: &theirs, overwrites: None };
    server.nginx.install(&other, &wanted).await.unwrap();
    for _ in 0..7 {
        assert_eq!(get(&theirs), 200);
    }
    for _ in 0..3 {
        assert_eq!(get(&ours), 200);
    }
    assert_counted(&server, &environment(), 3, 0).await;
}

#[tokio::test]
async fn what_nginx_answers_by_itself_is_counted_and_the_agents_own_requests_are_not() {
    let server = Server::start();
    let application = Application::start("127.0.0.1", 0);
    let site = site(&[application.address]);
    install(&server, 1, &site).await;
    assert_eq!(get(&site), 200);
    let at = server.nginx.address(&environment()).unwrap();
    let limit = std::time::Duration::from_secs(5);
    server.nginx.ask(&at, "/", limit).await.unwrap();
    drop(application);
    assert_eq!((get(&site), get(&site)), (502, 502));
    assert_counted(&server, &environment(), 3, 2).await;
}

#[tokio::test]
async fn every_request_is_in_the_access_log_in_the_usual_form() {
    let server = Server::start();
    let application = Application::start("127.0.0.1", 0);
    let site = site(&[application.address]);
    install(&server, 1, &site).await;
    get(&site);
    let log = server.path("lockstep-notes-production.access.log");
    wait_until("it is logged", || fs::read_to_string(&log).is_ok_and(|text| text.ends_with('\n')));
    let text = fs::read_to_string(&log).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("127.0.0.1 - - ["), "{text}");
    assert!(text.contains("] \"GET /notes?page=2 HTTP/1.0\" 200 "), "{text}");
    assert!(text.contains(" \"-\" \"a test\" 0."), "{text}");
    assert!(text.ends_with(&format!(" {} -\n", application.address)), "{text}");
}

#[tokio::test]
async fn a_rotation_in_the_middle_costs_no_line() {
    let server = Server::start();
    let application = Application::start("127.0.0.1", 0);
    let site = site(&[application.address]);
    install(&server, 1, &site).await;
    get(&site);
    let log = server.path("lockstep-notes-production.access.log");
    fs::rename(&log, server.path("lockstep-notes-production.access.log.1")).unwrap();
    // As logrotate does: the workers write into the old file until they have opened the new one.
    get(&site);
    let mut reopen = Command::new("/usr/sbin/nginx");
    reopen.arg("-p").arg(server.directory.path()).arg("-c").arg(server.path("nginx.conf"));
    assert!(reopen.args(["-s", "reopen"]).status().unwrap().success());
    wait_until("the new file is there", || log.exists());
    get(&site);
    assert_counted(&server, &environment(), 3, 0).await;
}

#[tokio::test]
async fn an_administrator_who_logs_in_another_way_gets_no_false_count() {
    let server = Server::start();
    let application = Application::start("127.0.0.1", 0);
    let first = site(&[application.address]);
    install(&server, 1, &first).await;
    let additions = server.path("sites/lockstep-notes-production.d");
    fs::write(additions.join("own.conf"), "location /own/ { access_log off; return 204; }").unwrap();
    assert_eq!(counted(&server, &environment()).await, None);
    fs::write(additions.join("own.conf"), "location /own/ { return 204; } # access_log off;").unwrap();
    assert_eq!(ask(first.listen_port, "GET").0, 200);
    assert_counted(&server, &environment(), 1, 0).await;
}

#[tokio::test]
async fn a_site_that_was_taken_down_comes_back_with_its_slot() {
    let server = Server::start();
    let application = Application::start("127.0.0.1", 0);
    let site = site(&[application.address]);
    install(&server, 1, &site).await;
    server.nginx.switch(&environment(), Slot::Green).unwrap();
    let text = fs::read_to_string(server.site()).unwrap();

    // As a step that is repeated after the agent was killed.
    for _ in 0..2 {
        assert_eq!(server.nginx.take_down(&environment(), &deployment(2)).await.unwrap(), SiteRevert::Yes);
    }
    assert!(!server.site().exists());
    wait_until("nobody listens", || TcpStream::connect(("127.0.0.1", site.listen_port)).is_err());
    // Whoever installs a site again begins with blue.
    assert_eq!(server.nginx.slot(&environment()), Slot::Blue);

    assert_eq!(server.nginx.restore(&environment(), &deployment(2)).await.unwrap(), SiteRevert::Yes);
    assert_eq!(fs::read_to_string(server.site()).unwrap(), text);
    assert_eq!(server.nginx.slot(&environment()), Slot::Green);
    wait_until("it is served", || TcpStream::connect(("127.0.0.1", site.listen_port)).is_ok());
}
