//! A large log with 200 secrets in it, redacted: beside `grep -F -f`, which only looks for them, on the same file.
//!
//! Both read the file from the page cache, in turn, on one processor each. What is redacted is thrown away, as `grep -c`
//! throws away the lines that it counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lockstep_core::secret::Secret;
use lockstep_core::secret::redact::{MASK, Redactor};

use crate::case::{Case, Effort};
use crate::report::{Limit, Measured};
use crate::statistics::median;

/// Both in turn, so often.
const ROUNDS: usize = 5;

const LOG_MB: usize = 1024;
const LOG_MB_OF_SAMPLE: usize = 256;

const SECRETS: usize = 200;

/// One line in so many has a secret.
const LINES_BETWEEN: usize = 1000;

/// How much is redacted at a time.
const BLOCK_BYTES: usize = 1024 * 1024;

/// What logs are full of; some of it is also the beginning of secrets.
const WORDS: [&str; 12] = [
    "GET /api/v1/notes",
    "status=200",
    "duration_ms=12",
    "user",
    "session",
    "connection to postgres://",
    "https://notes.example/login",
    "cache miss",
    "worker",
    "queue=default",
    "production",
    "retry",
];

struct Input {
    log: PathBuf,
    patterns: PathBuf,
    redactor: Redactor,
    megabytes: f64,
}

pub(super) fn measure(directory: &Path, effort: Effort, say: &mut dyn FnMut(&str)) -> Result<Measured> {
    let input = Input::write(directory, effort.choose(LOG_MB, LOG_MB_OF_SAMPLE))?;
    say(&format!(
        "· redaction: {:.0} MB of logs with {SECRETS} secrets, {ROUNDS} times each",
        input.megabytes
    ));
    let (mut ours, mut grep) = (Vec::new(), Vec::new());
    // One of each first, which does not count.
    for round in 0..=ROUNDS {
        let begun = Instant::now();
        let masked = input.redact()?;
        let took_ours = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let found = input.grep()?;
        let took_grep = begun.elapsed().as_secs_f64();
        ensure!(masked == found && masked > 0, "{masked} secrets are masked, and grep finds {found}");
        if round > 0 {
            ours.push(input.megabytes / took_ours);
            grep.push(input.megabytes / took_grep);
        }
    }
    fs::remove_file(&input.log)?;
    Ok(Measured {
        case: Case::Redaction,
        unit: "MB a second",
        ours: median(&ours),
        peer: median(&grep),
        peer_name: "grep -F -f",
        interval: None,
        limit: Limit::RatioAtLeast(0.5),
    })
}

impl Input {
    fn write(directory: &Path, megabytes: usize) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let (log, patterns) = (directory.join("log"), directory.join("secrets"));
        let mut random = fastrand::Rng::with_seed(7);
        let secrets = secrets(&mut random);
        fs::write(&patterns, secrets.iter().map(|secret| format!("{secret}\n")).collect::<String>())?;
        let mut file = BufWriter::new(File::create(&log)?);
        let mut bytes = 0;
        for number in 0.. {
            let line = line(number, &secrets, &mut random);
            file.write_all(line.as_bytes())?;
            bytes += line.len();
            if bytes >= megabytes * 1_000_000 {
                break;
            }
        }
        file.flush()?;
        let named = secrets.into_iter().enumerate();
        let variables: BTreeMap<String, Secret> =
            named.map(|(number, secret)| (format!("SECRET_{number}"), Secret::new(secret))).collect();
        let redactor = Redactor::new(&variables, &BTreeSet::new());
        Ok(Self { log, patterns, redactor, megabytes: bytes as f64 / 1e6 })
    }

    /// How many secrets were masked.
    fn redact(&self) -> Result<usize> {
        let mut file = File::open(&self.log)?;
        let mut block = vec![0; BLOCK_BYTES];
        let (mut filled, mut masked) = (0, 0);
        loop {
            let read = file.read(&mut block[filled..])?;
            if read == 0 {
                return Ok(masked);
            }
            filled += read;
            let lines = block[..filled].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let text = std::str::from_utf8(&block[..lines])?;
            let clean = self.redactor.redact(text);
            if clean.len() != text.len() {
                masked += clean.matches(MASK).count();
            }
            block.copy_within(lines..filled, 0);
            filled -= lines;
        }
    }

    /// How many lines have a secret.
    fn grep(&self) -> Result<usize> {
        let mut command = Command::new("grep");
        // Without a locale it is fastest.
        command.args(["-F", "-c", "-f"]).arg(&self.patterns).arg(&self.log).env("LC_ALL", "C");
        let output = command.output().context("grep is not installed")?;
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    }
}

fn secrets(random: &mut fastrand::Rng) -> Vec<String> {
    let mut word = |length: usize| -> String { (0..length).map(|_| random.alphanumeric()).collect() };
    (0..SECRETS)
        .map(|number| match number % 5 {
            0 => format!("postgres://app{number}:{}@db-{number}.internal:5432/notes", word(16)),
            1 => format!("https://{}@errors.example/{number}", word(24)),
            2 => word(12),
            3 => word(32),
            _ => word(64),
        })
        .collect()
}

fn line(number: usize, secrets: &[String], random: &mut fastrand::Rng) -> String {
    let words: Vec<&str> = (0..3 + random.usize(..12)).map(|_| WORDS[random.usize(..WORDS.len())]).collect();
    let secret = if number.is_multiple_of(LINES_BETWEEN) {
        secrets[random.usize(..secrets.len())].as_str()
    } else {
        "-"
    };
    format!(
        "2026-07-15T12:{:02}:{:02}Z INFO web request_id={:016x} {} {secret}\n",
        number / 60 % 60,
        number % 60,
        random.u64(..),
        words.join(" ")
    )
}
