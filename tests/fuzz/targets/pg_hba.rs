//! `pg_hba.conf` of a server that is not ours alone, and the rules that the server has made of it. The parts of an input:
//! lines of the environment, rules of the server, and the file; the fields of a line stand between tabs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_agent::postgres::fuzzing::{RuleColumns, admits, lines, with_lines};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::hba::{DatabaseRole, HbaLine, Transport};
use lockstep_fuzz::parts;

fuzz_target!(|text: &str| {
    let [wanted, rules, file] = parts(text);
    let wanted: Vec<HbaLine> = wanted.lines().filter_map(line).collect();
    let rules: Vec<RuleColumns> = rules.lines().filter_map(rule).collect();
    the_file_keeps_what_is_not_ours(file, &wanted);
    for line in &wanted {
        the_first_rule_that_fits_decides(&rules, line);
    }
});

fn line(text: &str) -> Option<HbaLine> {
    let fields: Vec<&str> = text.split('\t').collect();
    let [host, address, database, user, transport] = fields.as_slice() else { return None };
    let transport = if *transport == "tls" { Transport::Tls } else { Transport::Any };
    let role = DatabaseRole { database: (*database).to_owned(), user: (*user).to_owned(), transport };
    Some(HbaLine { host: host.parse().ok()?, address: (*address).to_owned(), role })
}

fn rule(text: &str) -> Option<RuleColumns> {
    let fields: Vec<&str> = text.split('\t').collect();
    let [kind, databases, users, address, netmask, method] = fields.as_slice() else { return None };
    let words = |text: &str| text.split(',').map(str::to_owned).collect();
    let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Some(RuleColumns {
        kind: (*kind).to_owned(),
        databases: words(databases),
        users: words(users),
        address: said(address),
        netmask: said(netmask),
        method: (*method).to_owned(),
    })
}

fn the_file_keeps_what_is_not_ours(file: &str, wanted: &[HbaLine]) {
    let (own, other) = (key("notes/production"), key("notes/prod"));
    let there = lines(file, &own);
    let others = lines(file, &other);
    let Ok(written) = with_lines(file, &own, wanted) else { return };
    let read = lines(&written, &own).expect("what was written can be read");
    assert_eq!(read.len(), wanted.len());
    for (read, wanted) in read.iter().zip(wanted) {
        // An address is written as the server shows it.
        assert_eq!((&read.host, &read.role), (&wanted.host, &wanted.role));
        assert_eq!(read.address.parse::<std::net::IpAddr>(), wanted.address.parse());
    }
    assert_eq!(with_lines(&written, &own, wanted).as_ref(), Ok(&written), "it is changed again");
    // A block of another that is inside of ours is not another's.
    if there.is_ok() && others.is_ok() {
        assert_eq!(lines(&written, &other), others, "another's lines were changed");
    }
    let without = with_lines(&written, &own, &[]).expect("a block that was written");
    if there == Ok(Vec::new()) && with_lines(file, &own, &[]).as_deref() == Ok(file) {
        assert!(without.starts_with(file) && without[file.len()..].trim().is_empty(), "{without:?}");
    }
}

fn the_first_rule_that_fits_decides(rules: &[RuleColumns], line: &HbaLine) {
    let HbaLine { host: _, address, role } = line;
    let decided = admits(rules, role, address);
    let all = |method: &str| RuleColumns {
        kind: "host".to_owned(),
        databases: vec!["all".to_owned()],
        users: vec!["all".to_owned()],
        address: Some("all".to_owned()),
        netmask: None,
        method: method.to_owned(),
    };
    if address.parse::<std::net::IpAddr>().is_err() {
        assert_eq!(decided, None, "{address:?} is no address");
        return;
    }
    let before: Vec<RuleColumns> = [all("reject")].into_iter().chain(rules.iter().cloned()).collect();
    assert_eq!(admits(&before, role, address), Some(false));
    let after: Vec<RuleColumns> = rules.iter().cloned().chain([all("trust")]).collect();
    assert_eq!(admits(&after, role, address), Some(decided.unwrap_or(true)));
}

fn key(text: &str) -> EnvironmentKey {
    text.parse().expect("a key")
}
