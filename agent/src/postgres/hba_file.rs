//! `pg_hba.conf` as text and as rules: an environment's block of lines, and the rule that decides about a connection.
//! Pure.
//!
//! What must stay true: only the environment's own block changes. A block goes to the end, after the lines of the
//! administrator: the first rule that fits decides, so an administrator's rule takes precedence.

use std::net::IpAddr;

use lockstep_core::name::EnvironmentKey;
use lockstep_core::plan::hba::{DatabaseRole, HbaLine, Transport};

const BEGIN: &str = "# BEGIN LOCKSTEP";
const END: &str = "# END LOCKSTEP";

/// Names that PostgreSQL takes for something else where they are not quoted.
const KEYWORDS: &[&str] = &["all", "replication", "samegroup", "samerole", "sameuser"];

/// Why a text is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum HbaFileError {
    #[error("the block of {0} has no END line")]
    NoEnd(EnvironmentKey),
    #[error("the block of {1} has a line that Lockstep did not write: {0:?}")]
    ForeignLine(String, EnvironmentKey),
    #[error("{0:?} cannot be written in pg_hba.conf")]
    Unwritable(String),
}

/// The environment's lines.
pub(super) fn lines(text: &str, key: &EnvironmentKey) -> Result<Vec<HbaLine>, HbaFileError> {
    let Some(block) = Block::find(text, key)? else { return Ok(Vec::new()) };
    let inner = text[block.begin..block.end].lines().filter(|line| !line.starts_with('#'));
    inner
        .map(|line| read(line).ok_or_else(|| HbaFileError::ForeignLine(line.to_owned(), key.clone())))
        .collect()
}

/// The text with exactly these lines of the environment.
pub(super) fn with_lines(
    text: &str,
    key: &EnvironmentKey,
    lines: &[HbaLine],
) -> Result<String, HbaFileError> {
    let written = if lines.is_empty() { String::new() } else { block(key, lines)? };
    if let Some(there) = Block::find(text, key)? {
        return Ok(format!("{}{written}{}", &text[..there.begin], &text[there.end..]));
    }
    if written.is_empty() {
        return Ok(text.to_owned());
    }
    // A backslash at the end of a line takes the next one into it.
    let gap = match text.strip_suffix('\n') {
        _ if text.is_empty() => "",
        Some(rest) if rest.ends_with('\\') => "\n",
        Some(_) => "",
        None => "\n",
    };
    Ok(format!("{text}{gap}{written}"))
}

fn block(key: &EnvironmentKey, lines: &[HbaLine]) -> Result<String, HbaFileError> {
    let mut block = format!("{BEGIN} {key}: kept by Lockstep, what is changed before the end is lost\n");
    for line in lines {
        block += &write(line)?;
    }
    block += &format!("{END} {key}\n");
    Ok(block)
}

/// Where an environment's block is, with its marks.
struct Block {
    begin: usize,
    end: usize,
}

impl Block {
    fn find(text: &str, key: &EnvironmentKey) -> Result<Option<Self>, HbaFileError> {
        let is_mark = |line: &str, mark: &str| {
            let rest = line.strip_prefix(mark).and_then(|rest| rest.strip_prefix(' '));
            rest.is_some_and(|rest| rest.trim_end().split(':').next() == Some(&key.to_string()))
        };
        let mut begin = None;
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let from = at;
            at += line.len();
            match begin {
                None if is_mark(line, BEGIN) => begin = Some(from),
                Some(begin) if is_mark(line, END) => return Ok(Some(Self { begin, end: at })),
                None | Some(_) => {}
            }
        }
        if begin.is_some() { Err(HbaFileError::NoEnd(key.clone())) } else { Ok(None) }
    }
}

fn write(line: &HbaLine) -> Result<String, HbaFileError> {
    let HbaLine { host, address, role: DatabaseRole { database, user, transport } } = line;
    let kind = match transport {
        Transport::Any => "host",
        Transport::Tls => "hostssl",
    };
    let ip: IpAddr = address.parse().map_err(|_| HbaFileError::Unwritable(address.clone()))?;
    let whole = if ip.is_ipv4() { 32 } else { 128 };
    let (database, user) = (quoted(database)?, quoted(user)?);
    Ok(format!("{kind}\t{database}\t{user}\t{ip}/{whole}\tscram-sha-256\t# {host}\n"))
}

fn quoted(name: &str) -> Result<String, HbaFileError> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(HbaFileError::Unwritable(name.to_owned()));
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let begins_plainly = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if begins_plainly && name.chars().all(is_plain) && !KEYWORDS.contains(&name) {
        return Ok(name.to_owned());
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

/// A line as [`write`] writes it.
fn read(line: &str) -> Option<HbaLine> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [kind, database, user, address, _, host] = fields.as_slice() else { return None };
    let transport = match *kind {
        "host" => Transport::Any,
        "hostssl" => Transport::Tls,
        _ => return None,
    };
    let plain = |name: &str| match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_owned(),
    };
    let role = DatabaseRole { database: plain(database), user: plain(user), transport };
    let (address, _) = address.rsplit_once('/')?;
    Some(HbaLine { host: host.strip_prefix("# ")?.parse().ok()?, address: address.to_owned(), role })
}

/// A rule, as `pg_hba_file_rules` has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Rule {
    /// As an administrator finds it: `pg_hba.conf:12`.
    pub(super) place: String,
    pub(super) kind: String,
    pub(super) databases: Vec<String>,
    pub(super) users: Vec<String>,
    pub(super) address: Option<String>,
    pub(super) netmask: Option<String>,
    pub(super) method: String,
}

impl Rule {
    pub(super) fn allows(&self) -> bool {
        self.method != "reject"
    }

    /// Whether it surely fits; what depends on roles, names of hosts or the server's networks does not count.
    fn fits(&self, role: &DatabaseRole, ip: IpAddr) -> bool {
        let kind = match role.transport {
            Transport::Any => self.kind == "host",
            Transport::Tls => matches!(self.kind.as_str(), "host" | "hostssl"),
        };
        let is_own_name = role.database == role.user;
        let database = self.databases.iter().any(|database| {
            database == "all" || *database == role.database || (database == "sameuser" && is_own_name)
        });
        let user = self.users.iter().any(|user| user == "all" || *user == role.user);
        kind && database && user && self.has(ip)
    }

    fn has(&self, ip: IpAddr) -> bool {
        let Some(address) = &self.address else { return false };
        if address == "all" {
            return true;
        }
        let (Ok(address), Some(Ok(mask))) = (address.parse(), self.netmask.as_ref().map(|mask| mask.parse()))
        else {
            return false;
        };
        match (address, mask, ip) {
            (IpAddr::V4(address), IpAddr::V4(mask), IpAddr::V4(ip)) => {
                address.to_bits() & mask.to_bits() == ip.to_bits() & mask.to_bits()
            }
            (IpAddr::V6(address), IpAddr::V6(mask), IpAddr::V6(ip)) => {
                address.to_bits() & mask.to_bits() == ip.to_bits() & mask.to_bits()
            }
            (IpAddr::V4(_) | IpAddr::V6(_), IpAddr::V4(_) | IpAddr::V6(_), IpAddr::V4(_) | IpAddr::V6(_)) => {
                false
            }
        }
    }
}

/// The rule that decides whether `role` is let in from `address`: the first that fits.
pub(super) fn deciding<'a>(rules: &'a [Rule], role: &DatabaseRole, address: &str) -> Option<&'a Rule> {
    let ip: IpAddr = address.parse().ok()?;
    rules.iter().find(|rule| rule.fits(role, ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIANS: &str = "# TYPE  DATABASE  USER  ADDRESS  METHOD\nlocal   all   postgres   peer\n";

    fn key(text: &str) -> EnvironmentKey {
        text.parse().unwrap()
    }

    fn role(transport: Transport) -> DatabaseRole {
        DatabaseRole { database: "notes".to_owned(), user: "writer".to_owned(), transport }
    }

    fn line(host: &str, address: &str) -> HbaLine {
        let role = role(Transport::Any);
        HbaLine { host: host.parse().unwrap(), address: address.to_owned(), role }
    }

    #[test]
    fn a_block_comes_changes_and_goes_and_the_rest_stays_as_it_is() {
        let notes = key("notes/production");
        let one = with_lines(DEBIANS, &notes, &[line("app-1", "10.0.0.31")]).unwrap();
        let marked = "# BEGIN LOCKSTEP notes/production: kept by Lockstep, what is changed before the end is lost\n\
                      host\tnotes\twriter\t10.0.0.31/32\tscram-sha-256\t# app-1\n\
                      # END LOCKSTEP notes/production\n";
        assert_eq!(one, format!("{DEBIANS}{marked}"));
        // Another's line after it, and another's block.
        let lines_2 = [line("app-1", "10.0.0.31"), line("app-2", "fd00::1")];
        let more = with_lines(&format!("{one}host all all 10.9.0.0/16 md5\n"), &key("notes/prod"), &lines_2)
            .unwrap();
        assert_eq!(lines(&more, &key("notes/prod")), Ok(lines_2.to_vec()));
        assert_eq!(lines(&more, &notes), Ok(vec![line("app-1", "10.0.0.31")]));
        let without = with_lines(&with_lines(&more, &notes, &[]).unwrap(), &key("notes/prod"), &[]).unwrap();
        assert_eq!(without, format!("{DEBIANS}host all all 10.9.0.0/16 md5\n"));
        assert_eq!(with_lines(DEBIANS, &notes, &[]), Ok(DEBIANS.to_owned()));
    }

    #[test]
    fn an_unfinished_last_line_stays_a_line_of_its_own() {
        for last in ["local all all peer", "local all all peer \\\n"] {
            let text = with_lines(last, &key("a/b"), &[line("app-1", "10.0.0.1")]).unwrap();
            assert!(text.starts_with(&format!("{last}\n# BEGIN")), "{text}");
        }
    }

    #[test]
    fn a_block_that_somebody_has_cut_is_left_alone() {
        let notes = key("notes/production");
        let whole = with_lines(DEBIANS, &notes, &[line("app-1", "10.0.0.31")]).unwrap();
        let cut = whole.replace("# END LOCKSTEP notes/production\n", "host all all 10.0.0.0/8 md5\n");
        assert_eq!(with_lines(&cut, &notes, &[]), Err(HbaFileError::NoEnd(notes.clone())));
        let strange = whole.replace("# END", "host all all 10.0.0.0/8 md5\n# END");
        assert!(matches!(lines(&strange, &notes), Err(HbaFileError::ForeignLine(..))));
    }

    #[test]
    fn names_that_mean_something_are_quoted_and_read_back() {
        for name in ["all", "+team", "/.*", "a b", "x,y", "sam\"uel", "ümlaut", "#1"] {
            let mut there = line("app-1", "10.0.0.1");
            there.role.user = name.to_owned();
            let text = with_lines("", &key("a/b"), std::slice::from_ref(&there)).unwrap();
            assert!(text.contains('"'), "{text}");
            assert_eq!(lines(&text, &key("a/b")), Ok(vec![there]));
        }
        let mut there = line("app-1", "10.0.0.1");
        there.role.database = "a\nhost all all all trust".to_owned();
        assert!(matches!(with_lines("", &key("a/b"), &[there]), Err(HbaFileError::Unwritable(_))));
        assert!(matches!(
            with_lines("", &key("a/b"), &[line("app-1", "all")]),
            Err(HbaFileError::Unwritable(_))
        ));
    }

    fn rule(kind: &str, database: &str, user: &str, at: (&str, &str)) -> Rule {
        Rule {
            place: format!("{kind} {database} {user} {}", at.0),
            kind: kind.to_owned(),
            databases: vec![database.to_owned()],
            users: vec![user.to_owned()],
            address: Some(at.0.to_owned()),
            netmask: (!at.1.is_empty()).then(|| at.1.to_owned()),
            method: "scram-sha-256".to_owned(),
        }
    }

    #[test]
    fn the_first_rule_that_surely_fits_decides() {
        let net = ("10.0.0.0", "255.255.255.0");
        let decides = |rules: &[Rule], transport| {
            deciding(rules, &role(transport), "10.0.0.31").map(|rule| rule.place.clone())
        };
        for rule in [
            rule("host", "all", "all", ("all", "")),
            rule("host", "notes", "writer", net),
            rule("host", "all", "writer", ("10.0.0.31", "255.255.255.255")),
        ] {
            assert_eq!(decides(std::slice::from_ref(&rule), Transport::Any), Some(rule.place.clone()));
        }
        for rule in [
            rule("local", "all", "all", ("all", "")),
            rule("host", "notes", "reader", net),
            rule("host", "sameuser", "all", net),
            rule("host", "all", "+writers", net),
            rule("host", "all", "all", ("10.0.1.0", "255.255.255.0")),
            rule("host", "all", "all", ("samenet", "")),
            rule("host", "all", "all", ("app-1.example", "")),
            rule("host", "all", "all", ("::", "::")),
            // Whether there is TLS is not known.
            rule("hostssl", "all", "all", net),
        ] {
            assert_eq!(decides(std::slice::from_ref(&rule), Transport::Any), None, "{rule:?}");
        }
        assert!(decides(&[rule("hostssl", "all", "all", net)], Transport::Tls).is_some());
        let refused = Rule { method: "reject".to_owned(), ..rule("host", "all", "all", net) };
        let rules = [refused, rule("host", "notes", "writer", net)];
        assert!(!deciding(&rules, &role(Transport::Any), "10.0.0.31").unwrap().allows());
    }
}
