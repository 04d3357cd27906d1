//! Stories: what the planner and the engine do, as text. A story is a list of commands, each with the
//! answer that it got; the reasons stand between them as comments.
//!
//! ```text
//! # Why this case exists.
//! host app-1
//! deploy notes:1 schema=1
//! ----
//! s1 app-1 preflight …
//! ```
//!
//! The setting of a story is one environment, `notes/production`, on hosts that are only names: what the
//! engine wants done is answered by the story itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, Result, anyhow, bail};
use lockstep_core::host::{Host, HostRole};
use lockstep_core::id::{Digest, HostId, StepId};
use lockstep_core::name::HostName;
use lockstep_core::plan::operation::{AnyBranch, Deploy, Operation, Rollback};
use lockstep_core::plan::{Action, Plan, Undo, check};
use lockstep_core::planner;
use lockstep_core::record::claim::{OperatorRequest, Resolution};
use lockstep_core::record::live::LiveRelease;
use lockstep_core::record::observed::{ContainerObservation, ContainerRunState, Observation};
use lockstep_core::record::ports::{PortEntry, PortTable};
use lockstep_core::record::{Record, SecretsSummary};
use lockstep_core::release::{Compatibility, Migration, Release, Schema, SchemaState};
use lockstep_core::run::engine;
use lockstep_core::run::engine::{Command, Phase, Run};
use lockstep_core::run::journal::Verdict;
use lockstep_core::run::journal::{Deferral, Direction, Entry, Event, Finding, StepFailure};
use lockstep_core::slot::Slot;
use lockstep_core::spec::EnvironmentSpec;
use lockstep_core::spec::check::{ValidatedSpec, check as check_spec};
use lockstep_core::time::{Millis, Timestamp};

mod damage;
mod declaration;
mod notes;
mod seen;
mod tell;

use notes::{changed_site, deployment, notes, summary};

/// Where a story's clock begins.
const START: Timestamp = Timestamp(1_769_596_200_000);

/// How many commands an engine may give in a row before a story counts as one that does not end.
const DECISIONS_MAX: usize = 500;

/// Plays a story and returns it with the answers that were really given.
///
/// # Errors
/// When a command is not one, or cannot be carried out.
pub fn play(story: &str) -> Result<String> {
    let mut state = StoryState::new();
    let mut text = String::new();
    for block in story.split("\n\n") {
        let (command, _) = block.split_once("\n----").unwrap_or((block, ""));
        let command = command.trim_end();
        if command.is_empty() {
            continue;
        }
        let mut answer = String::new();
        for line in command.lines().filter(|line| !line.starts_with('#')) {
            answer.push_str(&state.obey(line).with_context(|| format!("at {line:?}"))?);
        }
        text.push_str(command);
        if !answer.is_empty() {
            write!(text, "\n----\n{}", answer.trim_end())?;
        }
        text.push_str("\n\n");
    }
    Ok(format!("{}\n", text.trim_end()))
}

struct StoryState {
    spec: EnvironmentSpec,
    record: Record,
    migrations: Vec<Migration>,
    plan: Option<Plan>,
    run: Option<Run>,
    entries: Vec<Entry>,
    request: OperatorRequest,
    /// Hosts without a session, each since when.
    gone: BTreeMap<HostId, Timestamp>,
    now: Timestamp,
    epoch: u64,
    deployments: u32,
}

impl StoryState {
    fn new() -> Self {
        let spec = notes();
        let record = Record {
            key: spec.key.clone(),
            live: None,
            history: Vec::new(),
            hosts: Vec::new(),
            ports: PortTable::default(),
            secrets: Some(SecretsSummary { version: 1, names: BTreeSet::from(["DATABASE_URL".to_owned()]) }),
            observed: BTreeMap::new(),
            usual: BTreeMap::new(),
            kept_elsewhere: BTreeSet::new(),
            hosts_with_pending_undos: BTreeSet::new(),
        };
        Self {
            spec,
            record,
            migrations: Vec::new(),
            plan: None,
            run: None,
            entries: Vec::new(),
            request: OperatorRequest::None,
            gone: BTreeMap::new(),
            now: START,
            epoch: 1,
            deployments: 0,
        }
    }

    fn obey(&mut self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        match verb {
            "host" => self.host(&words),
            "spec" => self.change_spec(&words),
            "migration" => self.migration(&words),
            "schema" => self.schema(&words),
            "pg_hba" => self.pg_hba(&words),
            "secrets" => self.secrets(&words),
            "deploy" => self.plan_deploy(&words),
            "rollback" => self.plan_rollback(&words),
            "add" => self.plan_of_host(&words, Operation::AddHost),
            "drain" => self.plan_of_host(&words, Operation::DrainHost),
            "remove" => self.plan_of_host(&words, Operation::RemoveHost),
            "decommission" => self.make_plan(&Operation::Decommission),
            "silent" => self.silent(&words),
            "owes" => self.owes(&words),
            "show" => self.show(words.first().copied()),
            "open" => self.open(),
            "decide" => self.decide(),
            "done" | "fail" | "undone" | "undo-failed" => self.report(verb, &words),
            "ill" => self.ill(&words),
            "after" => self.after(words.first().context("after DURATION")?),
            "cancel" => self.cancel(words.first().context("cancel NAME")?),
            "crash" => self.crash(),
            "away" | "back" => self.presence(verb, words.first().context("away HOST, or back HOST")?),
            "ways" => Ok(tell::ways(self.run()?)),
            "resolve" => self.resolve(&words),
            "finish" => self.finish(),
            "break" => self.broken(&words),
            "slot" => self.slot(&words),
            "check" => Ok(match check_spec(self.spec.clone()) {
                Ok(_) => "it is as it should be\n".to_owned(),
                Err(problems) => problems.iter().map(|problem| format!("{problem}\n")).collect(),
            }),
            "site-changed-by-hand" => self.change_site(),
            "another-site-answers" => self.serve_another_site(),
            "elsewhere" => {
                let image = words.first().context("elsewhere IMAGE")?;
                self.record.kept_elsewhere.insert(Digest::of_content(image.as_bytes()));
                Ok(String::new())
            }
            _ => Err(anyhow!("{verb:?} is not a command of a story")),
        }
    }

    fn host(&mut self, words: &[&str]) -> Result<String> {
        let all = BTreeSet::from([HostRole::App, HostRole::Lb, HostRole::Db]);
        let (name, roles) = match words {
            [name] => (name, all),
            [name, "app"] => (name, BTreeSet::from([HostRole::App])),
            _ => return Err(anyhow!("host NAME, or host NAME app")),
        };
        let number = self.record.hosts.len() + 1;
        let id: HostId = format!("host_{number:026}").parse()?;
        self.record.hosts.push(Host {
            id: id.clone(),
            name: name.parse()?,
            address: format!("10.0.0.{number}"),
            roles,
        });
        for (index, slot) in [Slot::Blue, Slot::Green].into_iter().enumerate() {
            let port = 20_000 + u16::try_from(index)?;
            self.record.ports.ports.push(PortEntry { host: id.clone(), slot, process: "web".parse()?, port });
        }
        let schema = Some(Schema { version: 0, state: SchemaState::Clean });
        self.record.observed.insert(id, Observation { schema, ..Observation::default() });
        Ok(String::new())
    }

    /// `migration 1 create_notes [contracts]`: every image from here on has it.
    fn migration(&mut self, words: &[&str]) -> Result<String> {
        let [version, name, rest @ ..] = words else { bail!("migration VERSION NAME [contracts]") };
        let compatibility =
            if rest == ["contracts"] { Compatibility::Contracts } else { Compatibility::Expands };
        let digest = Digest::of_content(format!("{version} {name}").as_bytes());
        let migration =
            Migration { version: version.parse()?, name: (*name).to_owned(), digest, compatibility };
        self.migrations.push(migration);
        Ok(String::new())
    }

    fn secrets(&mut self, words: &[&str]) -> Result<String> {
        let version = self.record.secrets.as_ref().map_or(0, |secrets| secrets.version) + 1;
        let names = words.iter().map(|name| (*name).to_owned()).collect();
        self.record.secrets = Some(SecretsSummary { version, names });
        Ok(String::new())
    }

    fn release(&self, image: &str) -> Release {
        let image_id = Digest::of_content(image.as_bytes());
        Release {
            image: image.to_owned(),
            image_id,
            manifest: None,
            commit: None,
            migrations: self.migrations.clone(),
        }
    }

    fn validated(&self) -> Result<ValidatedSpec> {
        check_spec(self.spec.clone()).map_err(|problems| anyhow!("{problems:?}"))
    }

    fn plan_deploy(&mut self, words: &[&str]) -> Result<String> {
        let [image, rest @ ..] = words else {
            bail!("deploy IMAGE [from BRANCH] [allow-branch] [overwrite-site]")
        };
        let branch = rest.iter().position(|word| *word == "from").and_then(|at| rest.get(at + 1));
        let any_branch = if rest.contains(&"allow-branch") { AnyBranch::Allowed } else { AnyBranch::Refused };
        let release = self.release(image);
        let branch = branch.map(|name| (*name).to_owned());
        let deploy = Deploy { release, branch, any_branch, changed_site: changed_site(rest) };
        self.make_plan(&Operation::Deploy(deploy))
    }

    fn plan_rollback(&mut self, words: &[&str]) -> Result<String> {
        let to = match words {
            [] | ["overwrite-site"] => None,
            ["to", id] => Some(deployment(id.parse()?)?),
            _ => bail!("rollback [to NUMBER | overwrite-site]"),
        };
        self.make_plan(&Operation::Rollback(Rollback { to, changed_site: changed_site(words) }))
    }

    /// `add app-2`, `drain app-2` or `remove app-2`.
    fn plan_of_host(&mut self, words: &[&str], operation: fn(HostName) -> Operation) -> Result<String> {
        let [host] = words else { bail!("add|drain|remove HOST") };
        self.make_plan(&operation(host.parse()?))
    }

    /// `owes app-2`: it has something to take back.
    fn owes(&mut self, words: &[&str]) -> Result<String> {
        let [name] = words else { bail!("owes HOST") };
        let host = self.record.hosts.iter().find(|host| host.name.as_str() == *name);
        self.record.hosts_with_pending_undos.insert(host.context("there is no such host")?.id.clone());
        Ok(String::new())
    }

    fn make_plan(&mut self, operation: &Operation) -> Result<String> {
        self.run = None;
        match planner::plan(operation, &self.validated()?, &self.record) {
            Err(refused) => {
                self.plan = None;
                let next = refused.next.replace('\n', "\n    or: ");
                Ok(format!("refused: {}\n  why: {}\n  next: {next}\n", refused.what, refused.why))
            }
            Ok(plan) => {
                let text = tell::plan(&plan);
                self.plan = Some(plan);
                Ok(text)
            }
        }
    }

    fn show(&self, what: Option<&str>) -> Result<String> {
        let plan = self.plan.as_ref().context("there is no plan")?;
        let mut text = String::new();
        match what {
            Some("undo") => {
                for step in plan.steps() {
                    let undo = match &step.undo {
                        Undo::Nothing { because } => format!("nothing: {because}"),
                        Undo::By { action, change } => format!("{}: {change}", action.name()),
                    };
                    writeln!(text, "{} {} undo: {undo}", step.id, step.action.name())?;
                }
            }
            Some("endpoints") => text.push_str(&tell::endpoints(plan)),
            Some("omitted") => {
                for omission in &plan.omitted {
                    writeln!(text, "no {}: {}", omission.what, omission.because)?;
                }
            }
            Some("images") => {
                for step in plan.steps() {
                    let Action::CleanUp(clean_up) = &step.action else { continue };
                    let goes = |image: &&Digest| !clean_up.keep_images.contains(image);
                    let gone: Vec<&str> =
                        clean_up.known_images.iter().filter(goes).map(Digest::short).collect();
                    let kept: Vec<&str> = clean_up.keep_images.iter().map(Digest::short).collect();
                    writeln!(text, "kept {}; removed {}", kept.join(" "), gone.join(" "))?;
                }
            }
            other => bail!("show undo, show endpoints, show omitted or show images; not {other:?}"),
        }
        Ok(text)
    }

    fn open(&mut self) -> Result<String> {
        let plan = self.plan.clone().context("there is no plan")?;
        let until = self.now + plan.spec.deploy.lock_timeout;
        self.run = Some(Run::open(plan, until));
        self.entries.clear();
        self.request = OperatorRequest::None;
        self.deployments += 1;
        Ok(String::new())
    }

    fn run(&self) -> Result<&Run> {
        self.run.as_ref().context("nothing is open")
    }

    fn append(&mut self, event: Event) -> Result<String> {
        let run = self.run.as_mut().context("nothing is open")?;
        let entry = Entry { seq: run.next_seq(), at: self.now, epoch: self.epoch, event };
        if let Err(illegal) = run.apply(&entry) {
            return Ok(format!("refused: {illegal}\n"));
        }
        let mut text = format!("{}\n", tell::event(&entry.event));
        if let Some(debt) = engine::pending_undo(run, &deployment(self.deployments)?, &entry) {
            writeln!(text, "{} owes: {}", debt.host_name, debt.change)?;
        }
        self.entries.push(entry);
        Ok(text)
    }

    /// Carries out what the engine wants until it waits; `finish` is the same with every step done.
    fn decide(&mut self) -> Result<String> {
        let mut text = String::new();
        for _ in 0..DECISIONS_MAX {
            let commands = engine::decide_with_unreachable(self.run()?, &self.request, &self.gone, self.now);
            let mut appended = false;
            let mut wake = None;
            for command in commands {
                match command {
                    Command::Append(event) => {
                        // As the driver does when it has written what was wished for.
                        if matches!(
                            event,
                            Event::Resumed { .. } | Event::UndoDeferred { how: Deferral::Skipped { .. }, .. }
                        ) {
                            self.request = OperatorRequest::None;
                        }
                        text.push_str(&self.append(event)?);
                        appended = true;
                    }
                    Command::WakeAt(at) => wake = Some(wake.map_or(at, |earlier: Timestamp| earlier.min(at))),
                }
            }
            if !appended {
                text.push_str(&match (self.run()?.phase(), wake) {
                    (_, Some(at)) => format!("wait {}\n", at.since(self.now)),
                    (Phase::Ended { .. } | Phase::Stuck { .. }, None) => String::new(),
                    (Phase::Forward | Phase::Reverting { .. }, None) => "STANDS STILL\n".to_owned(),
                });
                return Ok(text);
            }
        }
        bail!("the engine does not come to an end")
    }

    fn report(&mut self, verb: &str, words: &[&str]) -> Result<String> {
        let [step, rest @ ..] = words else { bail!("{verb} STEP [why]") };
        let step: StepId = step.parse()?;
        let why = rest.join(" ");
        let direction = if verb.starts_with("undo") { Direction::Undo } else { Direction::Do };
        let event = if matches!(verb, "done" | "undone") {
            Event::Done { step, direction, finding: Finding::default() }
        } else {
            Event::Failed { step, direction, failure: StepFailure::new(why) }
        };
        let text = self.append(event)?;
        Ok(text + &self.decide()?)
    }

    /// `ill s8 app-2`: the check is done, and the host is not healthy.
    fn ill(&mut self, words: &[&str]) -> Result<String> {
        let [step, name] = words else { bail!("ill STEP HOST") };
        let step: StepId = step.parse()?;
        let host = self.record.hosts.iter().find(|host| host.name.as_str() == *name);
        let address = &host.context("there is no such host")?.address;
        let planned = self.run()?.effective_plan().step(step).context("there is no such step")?;
        let Action::CheckHealth(check) = &planned.action else { bail!("{step} asks nobody") };
        let own = check.targets.iter().filter(|target| target.address == *address);
        let finding = Finding { unhealthy: own.cloned().collect(), ..Finding::default() };
        let text = self.append(Event::Done { step, direction: Direction::Do, finding })?;
        Ok(text + &self.decide()?)
    }

    fn after(&mut self, duration: &str) -> Result<String> {
        self.now = self.now + Millis::parse(duration)?;
        self.decide()
    }

    fn cancel(&mut self, by: &str) -> Result<String> {
        self.request = OperatorRequest::Cancel { by: by.parse()? };
        self.decide()
    }

    /// The coordinator dies; its successor has plan and journal, and a higher epoch.
    fn crash(&mut self) -> Result<String> {
        let old = self.run.take().context("nothing is open")?;
        self.epoch += 1;
        let run = Run::replay(old.plan().clone(), old.lock_until(), &self.entries)?;
        let mut text = String::new();
        for intent in run.open_intents() {
            writeln!(text, "ask about {} {}", intent.step, intent.direction)?;
        }
        if text.is_empty() {
            text.push_str("nothing is open\n");
        }
        self.run = Some(run);
        Ok(text)
    }

    fn presence(&mut self, verb: &str, name: &str) -> Result<String> {
        let host = self.record.hosts.iter().find(|host| host.name.as_str() == name);
        let id = host.context("no such host")?.id.clone();
        match verb {
            "away" => self.gone.insert(id, self.now),
            _ => self.gone.remove(&id),
        };
        Ok(String::new())
    }

    /// `resolve anna --retry`, `--unwind` or `--skip s3`.
    fn resolve(&mut self, words: &[&str]) -> Result<String> {
        let (by, way) = match words {
            [by, "--retry"] => (by, Resolution::Retry),
            [by, "--unwind"] => (by, Resolution::Unwind),
            [by, "--skip", step] => (by, Resolution::Skip { step: step.parse()? }),
            _ => bail!("resolve NAME --retry|--unwind|--skip STEP"),
        };
        if let Some(why) = engine::refuse_resolution(self.run()?, way) {
            return Ok(format!("refused: {why}\n"));
        }
        self.request = way.requested_by(by.parse()?);
        self.decide()
    }

    /// Every step that begins is done, to the end; the record then says what is so.
    fn finish(&mut self) -> Result<String> {
        if self.run.is_none() {
            self.open()?;
        }
        let mut text = String::new();
        for _ in 0..DECISIONS_MAX {
            self.decide()?;
            let open = self.run()?.open_intents();
            if open.is_empty() {
                break;
            }
            for intent in open {
                let finding = Finding::default();
                self.append(Event::Done { step: intent.step, direction: intent.direction, finding })?;
            }
        }
        let Phase::Ended { verdict } = self.run()?.phase().clone() else {
            bail!("it has not ended: {:?}", self.run()?.phase())
        };
        writeln!(text, "{verdict}: {}", self.record_end(verdict)?)?;
        Ok(text)
    }

    fn record_end(&mut self, verdict: Verdict) -> Result<String> {
        let run = self.run.take().context("nothing is open")?;
        let plan = run.effective_plan().clone();
        let id = deployment(self.deployments)?;
        let schema = plan.schema_before.map(|before| before.max(plan.release.schema_version()));
        self.record.history.insert(0, summary(&plan, &id, verdict, self.now, schema));
        if verdict != Verdict::Succeeded {
            return Ok("the record is as it was".to_owned());
        }
        for (host, seen) in &mut self.record.observed {
            if let Some(schema) = schema {
                seen.schema = Some(Schema { version: schema, state: SchemaState::Clean });
            }
            for step in plan.steps().filter(|step| step.host == *host) {
                if let Action::AdmitHosts(admission) = &step.action {
                    seen::admit(seen, admission);
                }
                if let Action::InstallSite { site, .. } = &step.action {
                    seen.site = Some(site.digest());
                    seen.site_changed = None;
                }
                if let Action::RemoveSite = &step.action {
                    seen.site = None;
                }
                if let Action::StopSlot { slot } = &step.action {
                    seen.containers.retain(|there| there.slot != *slot);
                }
                if let Action::StartSlot { slot, containers } = &step.action {
                    seen.containers.retain(|there| there.slot != *slot);
                    seen.containers.extend(containers.iter().map(|spec| ContainerObservation {
                        name: format!("ls-{}-{slot}", spec.process),
                        slot: *slot,
                        process: spec.process.clone(),
                        deployment: id.clone(),
                        spec: spec.digest(),
                        image_id: spec.image_id.clone(),
                        running: ContainerRunState::Yes,
                        health: lockstep_core::health::Health::Healthy,
                        restarts: None,
                    }));
                }
            }
        }
        let (ended, earlier) = self.record.history.split_first().context("it was recorded above")?;
        self.record.live = LiveRelease::after(ended, self.record.live.as_ref(), earlier, self.now);
        Ok(match &self.record.live {
            Some(live) => format!("{} is live in {}", live.release.image, live.slot),
            None => "nothing is live".to_owned(),
        })
    }

    /// Damages the plan, and says which rules it breaks then.
    fn broken(&mut self, words: &[&str]) -> Result<String> {
        let mut plan = self.plan.clone().context("there is no plan")?;
        damage::damage(&mut plan, words)?;
        let mut text = String::new();
        for violation in check::check(&plan) {
            writeln!(text, "{violation}")?;
        }
        Ok(if text.is_empty() { "no rule is broken\n".to_owned() } else { text })
    }
}
