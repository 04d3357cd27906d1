//! What crosses the wire: `contract.txt` has every service, message and field with its number and type, `frames.txt`
//! the bytes of every message with every field set, and of a oneof one frame for each of its fields.
//!
//! In a frame, a text is its field's own name and a number its field's own number, so that a field that is read as
//! another one is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use lockstep_core::agent::fence::Token;
use lockstep_core::run::journal::{Direction, StepFailure, StepKey};
use lockstep_proto::{CONTRACT, wire};
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet, MethodDescriptorProto};

use crate::golden::{self, ADVICE};

const PACKAGE: &str = ".lockstep.v1.";

/// A message, and how its bytes are read and written.
struct Known {
    name: &'static str,
    rewrite: fn(&[u8]) -> Result<Vec<u8>, prost::DecodeError>,
}

macro_rules! messages {
    ($($type:ident),* $(,)?) => {
        const MESSAGES: &[Known] = &[$(Known { name: stringify!($type), rewrite: rewrite::<wire::$type> }),*];
    };
}

messages! {
    AboutReply, AddOperatorRequest, AskStanding, AskVitals, Assign, AuditRecord, AuditReply, BackupPart,
    BackupRequest, CancelRequest, ClaimRequest, Client, Connection, Connections, CoordinatorRef,
    CoordinatorsReply, DeployAsk, DeploymentRef, DiffSecretsReply, DiffSecretsRequest, Document, Done,
    EnvironmentRef, EnvironmentsReply, ErrandDone, FetchLog, FollowRequest, Followed, FreezeRequest,
    FromAgent, GrantReply, GrantRequest, HealthReport, Hello, HistoryReply, HostRef, HostTokenRequest,
    HostsReply, ImageGiven, ImageOffer, ImagePart, ImageSent, ImageWanted, ImportSecretsRequest, InspectReply,
    InspectedHost, JoinReply, JoinRequest, ListRequest, LocalChanged, LocalTakenIn, LogLine, LogReply,
    LoginWanted, LogsRequest, MachineRecord, MachineTokenRequest, Observe, Observed, OperatorRecord,
    OperatorRef, OperatorsReply, Outcome, PlanReply, PlanRequest, Progress, Refused, RegistriesReply,
    RegistryCheck, RegistryChecksReply, RegistryLogin, RegistryLoginRequest, RegistryRecord, RegistryRef,
    Relayed, RenewMachineTokenRequest, RenewRequest, Report, ResolveRequest, RetireAuthorityRequest,
    RollbackAsk, RotateAuthorityRequest, RunErrand, SecretName, Secrets, SecretsReply, SecretsWanted,
    ShowReply, SignAuthorityReply, SignAuthorityRequest, StandingReply, StartReply, StartRequest, StatusReply,
    StepKey, StepStanding, ToAgent, Token, TokenReply, UndoneChange, UsernamePassword, Variables, Vitals,
    WatchEvent, WatchProgress, WatchRequest, Welcome,
}

fn rewrite<M: Message + Default>(bytes: &[u8]) -> Result<Vec<u8>, prost::DecodeError> {
    M::decode(bytes).map(|message| message.encode_to_vec())
}

/// Every message of the contract, by its name.
struct Contract {
    files: FileDescriptorSet,
    messages: BTreeMap<String, DescriptorProto>,
}

impl Contract {
    fn of_this_program() -> Self {
        let files = FileDescriptorSet::decode(CONTRACT).expect("what the build has written");
        let ours = files.file.iter().filter(|file| file.package() == "lockstep.v1");
        let messages = ours.flat_map(|file| &file.message_type);
        let messages = messages.map(|message| (message.name().to_owned(), message.clone())).collect();
        Self { files, messages }
    }

    /// One line for each thing in it, in alphabetical order.
    fn lines(&self) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        for (name, message) in &self.messages {
            lines.insert(format!("message {name}"));
            lines.extend(
                message.field.iter().map(|field| format!("message {name}: {}", line_of(message, field))),
            );
        }
        for file in &self.files.file {
            for service in &file.service {
                let line = |method: &MethodDescriptorProto| {
                    let (from, to) = (stream(method.client_streaming), stream(method.server_streaming));
                    let (asked, answered) = (short(method.input_type()), short(method.output_type()));
                    format!("service {}: {}({from}{asked}) -> {to}{answered}", service.name(), method.name())
                };
                lines.extend(service.method.iter().map(line));
            }
            for kind in &file.enum_type {
                let values = kind.value.iter();
                lines.extend(
                    values
                        .map(|value| format!("enum {}: {} = {}", kind.name(), value.name(), value.number())),
                );
            }
        }
        lines
    }

    /// The bytes of a message with every field set; with one for each field of a oneof.
    fn frames_of(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        let message = &self.messages[name];
        let one_of: Vec<&FieldDescriptorProto> =
            message.field.iter().filter(|field| field.oneof_index.is_some()).collect();
        let always: Vec<&FieldDescriptorProto> =
            message.field.iter().filter(|field| field.oneof_index.is_none()).collect();
        if one_of.is_empty() {
            return vec![(name.to_owned(), self.frame(message, &always))];
        }
        let with = |field: &&FieldDescriptorProto| {
            let mut fields = always.clone();
            fields.push(field);
            fields.sort_by_key(|field| field.number());
            (format!("{name}.{}", field.name()), self.frame(message, &fields))
        };
        one_of.iter().map(with).collect()
    }

    fn frame(&self, message: &DescriptorProto, fields: &[&FieldDescriptorProto]) -> Vec<u8> {
        fields.iter().flat_map(|field| self.field(message, field)).collect()
    }

    /// <https://protobuf.dev/programming-guides/encoding/>
    fn field(&self, message: &DescriptorProto, field: &FieldDescriptorProto) -> Vec<u8> {
        let number = u64::try_from(field.number()).expect("numbers begin with 1");
        let tagged = |wire_type: u64, content: Vec<u8>| {
            let mut bytes = varint(number << 3 | wire_type);
            bytes.extend(content);
            bytes
        };
        let sized = |content: &[u8]| tagged(2, [varint(content.len() as u64), content.to_vec()].concat());
        match field.r#type() {
            Type::Uint64 | Type::Uint32 => tagged(0, varint(number)),
            // No enum and no bool has a 1 that means nothing.
            Type::Bool | Type::Enum => tagged(0, varint(1)),
            Type::String | Type::Bytes => sized(field.name().as_bytes()),
            Type::Message => match nested(message, field) {
                Some(entry) => sized(&self.frame(entry, &entry.field.iter().collect::<Vec<_>>())),
                None => sized(&self.frames_of(short(field.type_name())).swap_remove(0).1),
            },
            other @ (Type::Double
            | Type::Float
            | Type::Int64
            | Type::Int32
            | Type::Fixed64
            | Type::Fixed32
            | Type::Group
            | Type::Sfixed32
            | Type::Sfixed64
            | Type::Sint32
            | Type::Sint64) => panic!("{} is a {other:?}: say here how one is written", field.name()),
        }
    }

    /// Every frame of every message, by its name.
    fn frames(&self) -> BTreeMap<String, Vec<u8>> {
        self.messages.keys().flat_map(|name| self.frames_of(name)).collect()
    }
}

/// The entry of a map, which is a message of its own within its message.
fn nested<'a>(message: &'a DescriptorProto, field: &FieldDescriptorProto) -> Option<&'a DescriptorProto> {
    let name = field.type_name().rsplit('.').next()?;
    message.nested_type.iter().find(|nested| nested.name() == name)
}

fn short(name: &str) -> &str {
    name.strip_prefix(PACKAGE).unwrap_or(name)
}

fn stream(is_one: Option<bool>) -> &'static str {
    if is_one == Some(true) { "stream " } else { "" }
}

fn line_of(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let kind = match &field.type_name {
        Some(name) => short(name).to_owned(),
        None => field.r#type().as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    let label = if field.label() == Label::Repeated { "repeated " } else { "" };
    let of = field.oneof_index.map_or(String::new(), |index| {
        let index = usize::try_from(index).expect("a place in a list");
        format!(" of {}", message.oneof_decl[index].name())
    });
    format!("{} = {label}{kind} {}{of}", field.number(), field.name())
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

/// What the programs of this version have, for [`crate::write`].
pub(crate) fn contract_text() -> String {
    Contract::of_this_program().lines().iter().map(|line| format!("{line}\n")).collect()
}

/// What the programs of this version send, for [`crate::write`].
pub(crate) fn frames_text() -> String {
    let line = |(name, bytes): (String, Vec<u8>)| {
        let (message, _) = name.split_once('.').unwrap_or((&name, ""));
        let written = (known(message).rewrite)(&bytes).expect("it is read");
        assert_eq!(hex(&written), hex(&bytes), "{name} is written in another order");
        format!("{name} {}\n", hex(&written))
    };
    Contract::of_this_program().frames().into_iter().map(line).collect()
}

/// By what a frame is of: a message, or a message and its field of a oneof.
fn frames(version: &str) -> BTreeMap<String, Vec<u8>> {
    let text = golden::text(version, "frames.txt");
    let frame = |line: &str| {
        let (name, bytes) = line.split_once(' ').expect("a name and bytes");
        (name.to_owned(), from_hex(bytes))
    };
    text.lines().map(frame).collect()
}

fn known(name: &str) -> &'static Known {
    MESSAGES
        .iter()
        .find(|known| known.name == name)
        .unwrap_or_else(|| panic!("messages! above has no {name}"))
}

#[test]
fn every_service_message_and_field_is_what_it_was() {
    let here = Contract::of_this_program().lines();
    for version in golden::folders() {
        let golden = golden::text(version, "contract.txt");
        let gone: Vec<&str> = golden.lines().filter(|line| !here.contains(*line)).collect();
        assert!(gone.is_empty(), "{version} had, and this program has not:\n{}\n{ADVICE}", gone.join("\n"));
    }
}

#[test]
fn every_frame_is_read_and_sent_as_it_was() {
    for version in golden::folders() {
        for (name, bytes) in frames(version) {
            let message = name.split('.').next().unwrap_or_default();
            let written = (known(message).rewrite)(&bytes);
            let written = written.unwrap_or_else(|error| panic!("{version} {name}: {error}: {ADVICE}"));
            assert_eq!(hex(&written), hex(&bytes), "{version} {name}: {ADVICE}");
        }
    }
}

#[test]
fn every_message_and_field_of_this_program_has_a_golden_frame() {
    let golden: String = golden::folders().map(|version| golden::text(version, "contract.txt")).collect();
    let golden: BTreeSet<&str> = golden.lines().collect();
    let here = contract_text();
    let fresh: Vec<&str> = here.lines().filter(|line| !golden.contains(line)).collect();
    let frames: String = golden::folders().map(|version| golden::text(version, "frames.txt")).collect();
    let frames: BTreeSet<&str> = frames.lines().collect();
    let sent = frames_text();
    let missing: Vec<&str> = sent.lines().filter(|line| !frames.contains(line)).collect();
    assert!(
        fresh.is_empty() && missing.is_empty(),
        "these lines are missing in unreleased/contract.txt:\n{}\nand these in unreleased/frames.txt:\n{}\n{ADVICE}",
        fresh.join("\n"),
        missing.join("\n"),
    );
}

/// Two fields of one type that change places are two fields that mean something else.
#[test]
fn fields_are_read_where_they_were() {
    let frames = frames("da8beec");
    let read = |name: &str| wire::FromAgent::decode(&frames[name][..]).expect("it is read").message;
    let Some(wire::from_agent::Message::Hello(hello)) = read("FromAgent.hello") else { panic!("no hello") };
    let wanted = wire::Hello {
        version: "version".to_owned(),
        address: "address".to_owned(),
        clock_ms: 3,
        instance: "instance".to_owned(),
    };
    assert_eq!(hello, wanted);
    let assign = wire::Assign::decode(&frames["Assign"][..]).expect("it is read");
    assert_eq!(
        (assign.environment.as_str(), assign.limit_ms, assign.traceparent.as_str()),
        ("environment", 5, "traceparent")
    );
    let token = wire::Token { cluster: "cluster".to_owned(), epoch: 2, seq: 3 };
    assert_eq!(assign.token, Some(token));
    let join = wire::JoinRequest::decode(&frames["JoinRequest"][..]).expect("it is read");
    assert_eq!(
        (join.token_id.as_str(), join.token_secret.as_str(), join.clock_ms),
        ("token_id", "token_secret", 6)
    );
}

/// What the model means, as it is sent: a token, a step in both directions, an outcome.
pub(crate) fn converted_text() -> String {
    let token = Token { cluster: "cl_01JBQR2KXYZ987654321012345".parse().expect("an id"), epoch: 7, seq: 3 };
    let key = |direction| StepKey {
        deployment: "dep_01JBQR2KXYZ987654321012345".parse().expect("an id"),
        step: lockstep_core::id::StepId(2),
        direction,
    };
    let outcome = Err(StepFailure::new("it broke"));
    let sent = [
        hex(&wire::Token::from(token).encode_to_vec()),
        hex(&wire::StepKey::from(key(Direction::Do)).encode_to_vec()),
        hex(&wire::StepKey::from(key(Direction::Undo)).encode_to_vec()),
        hex(&wire::Outcome::of(&outcome).encode_to_vec()),
    ];
    sent.iter().map(|bytes| format!("{bytes}\n")).collect()
}

#[test]
fn a_token_a_step_and_an_outcome_are_sent_as_they_were() {
    assert_eq!(converted_text(), golden::text(golden::newest(), "converted.txt"), "{ADVICE}");
}
