//! The rules that only a new declaration must keep. A declaration that was recorded by an earlier version may break them:
//! it can still be rolled back, and it runs where it runs.
//!
//! Most of them are what Docker, the kernel or HTTP refuse. Without the rule the refusal comes at the start of a
//! container or at its first probe, when the environment is locked and the deployment must be reverted.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};

use super::Problems;
use crate::image;
use crate::name::ProcessName;
use crate::secret::limits::VALUE_BYTES_MAX;
use crate::spec::{EnvironmentSpec, ImageSource, ProcessSpec, Volume};

/// The processes of an environment. Each has a port and a container in both slots, and steps of its own in every plan.
pub const PROCESSES_MAX: usize = 100;

/// The declaration of an environment as it is stored. It is stored with every deployment, beside other things, in values
/// of at most twice this.
pub const DECLARATION_BYTES_MAX: usize = 256 * 1024;

/// Docker makes a folder of a volume's name, which has up to 255 bytes. Before it stands the name of the environment's
/// objects, which has up to 66 with the character after it.
const VOLUME_NAME_BYTES_MAX: usize = 189;

/// The kernel gives a control group at least 1 ms of every 100 ms.
const CPU_MILLI_MIN: u64 = 10;

/// More than any machine has. Docker counts in billionths, in 63 bits.
const CPU_MILLI_MAX: u64 = 8192 * 1000;

/// Docker counts bytes in 63 bits.
const MEMORY_BYTES_MAX: u64 = i64::MAX.unsigned_abs();

/// Where Lockstep mounts the state file of the slot in every container.
const STATE_DIRECTORY: &str = "/run/lockstep";

/// The signals that Docker knows, without `SIG`. It knows them in lower case too.
const SIGNALS: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

pub(super) fn check_only_declared(spec: &EnvironmentSpec, found: &mut Problems) {
    check_image(spec, found);
    check_size(spec, found);
    for (name, process) in &spec.processes {
        check_process(name, process, found);
    }
    for (name, value) in &spec.env {
        let path = format!("env.{name}");
        if value.contains('\0') {
            found.add(&path, "has a NUL character", "remove it: no variable of a process can have one");
        }
        if name.len() + value.len() > VALUE_BYTES_MAX {
            let (has, most) = (kib(name.len() + value.len()), kib(VALUE_BYTES_MAX));
            let what = format!("has {has} KiB, and a variable has at most {most} KiB");
            found.add(&path, &what, "put it into a file, and mount that with `volumes`");
        }
    }
}

/// The tag of a commit is added to it, or `--image` names the whole image.
fn check_image(spec: &EnvironmentSpec, found: &mut Problems) {
    let ImageSource::Repository(image) = &spec.image else { return };
    if let Err(invalid) = image::check_image(image) {
        return found.add("image", &invalid.to_string(), "write `image: ghcr.io/anna/notes`");
    }
    let name = image.rfind('/').map_or(0, |slash| slash + 1);
    let Some(end) = image[name..].find([':', '@']).map(|end| name + end) else { return };
    found.add(
        "image",
        &format!("{image} has a tag"),
        &format!("write `image: {}`; a deployment names the tag: --image {image}", &image[..end]),
    );
}

fn check_size(spec: &EnvironmentSpec, found: &mut Problems) {
    let count = spec.processes.len();
    if count > PROCESSES_MAX {
        found.add(
            "processes",
            &format!("has {count} processes, and an environment has at most {PROCESSES_MAX}"),
            "divide them among several environments",
        );
    }
    let bytes = serde_json::to_vec(spec).map_or(usize::MAX, |text| text.len());
    if bytes > DECLARATION_BYTES_MAX {
        found.add(
            &format!("environments.{}", spec.key.environment),
            &format!(
                "has {} KiB with all defaults, and a declaration has at most {} KiB",
                kib(bytes),
                kib(DECLARATION_BYTES_MAX)
            ),
            "shorten `env` and the commands of processes; mount what is large as a file",
        );
    }
}

fn check_process(name: &ProcessName, process: &ProcessSpec, found: &mut Problems) {
    let at = |key: &str| format!("processes.{name}.{key}");
    if process.command.iter().any(|word| word.contains('\0')) {
        found.add(&at("command"), "has a NUL character", "remove it: no argument of a program can have one");
    }
    if process.command.first().is_some_and(String::is_empty) {
        found.add(
            &at("command"),
            "begins with an empty word",
            "write the program first, or omit it to run the image's own command",
        );
    }
    if process.user.as_ref().is_some_and(|user| user.contains(|c: char| c.is_whitespace() || c.is_control()))
    {
        found.add(&at("user"), "has a space or a control character", "write it as in app, 1000 or 1000:1000");
    }
    if let Some(signal) = process.stop_signal.as_ref().filter(|signal| !is_signal(signal)) {
        found.add(
            &at("stop_signal"),
            &format!("{signal:?} is not a signal"),
            "write it as in SIGTERM, SIGRTMIN+3 or 15, or omit it to send the image's own",
        );
    }
    if !process.health.path.chars().all(is_of_uri_path) {
        found.add(
            &at("health.path"),
            &format!("{:?} has a character that no path of a URL has", process.health.path),
            "percent-encode it, as in /health%20check",
        );
    }
    if process.memory_bytes.is_some_and(|bytes| bytes > MEMORY_BYTES_MAX) {
        found.add(&at("memory"), "is more than Docker can count", "write it as in 512Mi");
    }
    if process.cpu_milli.is_some_and(|milli| !(CPU_MILLI_MIN..=CPU_MILLI_MAX).contains(&milli)) {
        found.add(&at("cpus"), "is below 0.01 or above 8192", "write it as in 0.5");
    }
    let mut targets = BTreeSet::new();
    for (index, volume) in process.volumes.iter().enumerate() {
        let path = at(&format!("volumes[{index}]"));
        if let Some((what, instead)) = check_source(volume).or_else(|| check_target(&volume.target)) {
            found.add(&path, &what, instead);
        } else if !targets.insert(volume.target.trim_end_matches('/')) {
            found.add(&path, &format!("mounts at {} a second time", volume.target), "write each target once");
        }
    }
}

/// What is wrong with a source, and what to write.
fn check_source(volume: &Volume) -> Option<(String, &'static str)> {
    let source = volume.source.as_str();
    if volume.is_host_path() {
        let is_plain = !source.contains(|c: char| c == ':' || c.is_control());
        return (!is_plain).then(|| {
            let what = format!("{source:?} is not a path that Docker can mount");
            (what, "write a path on the host without a colon and without control characters")
        });
    }
    // Docker wants a letter or a digit first. The name of the environment's objects, which stands before it, has one.
    let is_name = source.len() <= VOLUME_NAME_BYTES_MAX
        && source.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    (!is_name).then(|| {
        let what = format!("{source:?} is not a name that Docker takes for a volume");
        (what, "use letters, digits and _ . - as in data:/data, or write an absolute path on the host")
    })
}

/// What is wrong with a target, and what to write.
fn check_target(target: &str) -> Option<(String, &'static str)> {
    let path = target.strip_suffix('/').unwrap_or(target);
    let is_at_or_below =
        |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if path.is_empty() {
        return Some(("mounts at /, the whole container".to_string(), "name a folder, as in data:/data"));
    }
    let is_normal = path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    if !is_normal || path.contains(char::is_control) {
        let what = format!("{target:?} is not a plain path");
        return Some((
            what,
            "write the target without `.`, `..`, `//` and control characters, as in data:/data",
        ));
    }
    if is_at_or_below(STATE_DIRECTORY) {
        let what = format!("mounts at {target}, where Lockstep mounts the state of the slot");
        return Some((what, "choose a target outside /run/lockstep"));
    }
    is_at_or_below("/proc").then(|| {
        let what = format!("mounts at {target}, which belongs to the kernel");
        (what, "choose a target outside /proc")
    })
}

/// Whether Docker takes it. An empty one is the image's own.
fn is_signal(signal: &str) -> bool {
    if signal.is_empty() {
        return true;
    }
    if signal.bytes().all(|b| b.is_ascii_digit()) {
        return signal.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
    }
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let is_offset = |offset: &str, most: u8| {
        let is_plain = offset.bytes().all(|b| b.is_ascii_digit()) && !offset.starts_with('0');
        is_plain && offset.parse::<u8>().is_ok_and(|offset| offset <= most)
    };
    SIGNALS.contains(&name)
        || name.strip_prefix("RTMIN+").is_some_and(|offset| is_offset(offset, 15))
        || name.strip_prefix("RTMAX-").is_some_and(|offset| is_offset(offset, 14))
}

/// What stands in a path, with its query. A fragment is not sent.
fn is_of_uri_path(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, '"' | '#' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}')
}

fn kib(bytes: usize) -> usize {
    bytes.div_ceil(1024)
}
