//! The whole: PostgreSQL, nginx, Docker, a coordinator and an agent with mTLS between them, and the
//! project of an operator, all in one directory, with names and ports of its own.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lockstep_core::name::EnvironmentKey;
use lockstep_core::object_name::ObjectName;
use serde_json::Value;

use crate::bed::files::{let_enter, write_private};
use crate::bed::ports::free_port;
use crate::bed::program::process::{PROGRAMS, Process, built};
use crate::bed::program::{CommandOutput, run_with_input};
use crate::bed::server::docker::Docker;
use crate::bed::server::etcd::Etcd;
use crate::bed::server::nginx::Nginx;
use crate::bed::server::postgres::Postgres;
use crate::bed::wait::until;
use crate::load::{Load, Settings};

/// How long a service may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// The directory of the coordinator that makes the cluster.
const FIRST: &str = "coordinator";

/// The directory of the first host's agent.
const AGENT: &str = "agent";

/// What differs from stage to stage.
pub struct Setting {
    /// The application: part of every container's name, so that stages do not meet.
    pub application: String,
    pub bake: &'static str,
    pub drain: &'static str,
}

/// Where a stage's coordinator keeps its record.
#[derive(Clone, Copy)]
pub enum Record<'a> {
    /// In its own directory.
    Sqlite,
    Etcd(&'a Etcd),
}

/// What the programs know. Those that the benchmark compares ours with may be of an earlier revision.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Vintage {
    /// Without `lockstep env grant` and the agent's `[nginx] logs`: an environment may use everything.
    BeforeGrants,
    Current,
}

impl Vintage {
    /// Ours are not asked: a `grant` of theirs that is broken is to be noticed.
    fn of_programs(directory: &Path) -> Result<Self> {
        if std::env::var_os(PROGRAMS).is_none() {
            return Ok(Self::Current);
        }
        let said = CommandOutput::of(&mut command(directory, &["env", "grant", "--help"])?)?;
        Ok(if said.code == 0 { Self::Current } else { Self::BeforeGrants })
    }
}

/// The whole, running.
pub struct Stage {
    pub directory: PathBuf,
    pub application: String,
    pub docker: Docker,
    pub postgres: Postgres,
    pub nginx: Nginx,
    pub coordinator: Process,
    /// Those that joined the first one.
    pub others: Vec<Process>,
    pub agent: Process,
    /// The agents of those that joined after the first one.
    pub hosts: Vec<Process>,
    pub site: SocketAddr,
    bridge: IpAddr,
    images: Vec<String>,
    vintage: Vintage,
}

impl Stage {
    /// Starts everything in `directory`, which is emptied first.
    ///
    /// # Errors
    /// When a part does not start; what was started is gone then.
    pub fn start(directory: &Path, setting: &Setting) -> Result<Self> {
        Self::start_on(directory, setting, Record::Sqlite)
    }

    /// As [`Stage::start`], with the record where it is to be.
    ///
    /// # Errors
    /// When a part does not start; what was started is gone then.
    pub fn start_on(directory: &Path, setting: &Setting, record: Record<'_>) -> Result<Self> {
        let docker = Docker::check()?;
        let bridge = docker.bridge_address()?;
        make_directories(directory)?;
        let postgres = Postgres::start(&directory.join("postgres"), bridge)?;
        let nginx = Nginx::start(&directory.join("nginx"))?;
        let site = SocketAddr::new([127, 0, 0, 1].into(), free_port([127, 0, 0, 1].into())?);
        write_project(directory, setting, site, &postgres)?;
        if let Record::Etcd(etcd) = record {
            let settings =
                etcd.coordinator_settings(&etcd.certificates, &format!("/{}", setting.application));
            fs::write(directory.join("coordinator/coordinator.toml"), settings)?;
        }
        let coordinator = start_coordinator(directory, FIRST, &[])?;
        log_in(directory)?;
        let vintage = Vintage::of_programs(directory)?;
        write_agent_settings(directory, &nginx, vintage)?;
        join(directory, ("app-1", AGENT), bridge)?;
        let agent = start_agent(directory, AGENT, &[])?;
        let stage = Self {
            directory: directory.to_owned(),
            application: setting.application.clone(),
            docker,
            postgres,
            nginx,
            coordinator,
            others: Vec::new(),
            agent,
            hosts: Vec::new(),
            site,
            bridge,
            images: Vec::new(),
            vintage,
        };
        stage.wait_for_agent()?;
        stage.grant(&["--snapshot-directory", &directory.join("backups").display().to_string()])?;
        Ok(stage)
    }

    /// What the objects of the stage's environment are called on hosts.
    pub fn object_name(&self) -> ObjectName {
        let application = self.application.parse().expect("the name of the stage is one of an application");
        ObjectName::encode(&EnvironmentKey::new(application, "production".parse().expect("a name")))
    }

    /// Lets the environment of the stage use something outside of its containers.
    ///
    /// # Errors
    /// When it is refused.
    pub fn grant(&self, resources: &[&str]) -> Result<()> {
        if self.vintage == Vintage::BeforeGrants {
            return Ok(());
        }
        let environment = format!("{}/production", self.application);
        self.must(&[&["env", "grant", &environment], resources].concat())?;
        Ok(())
    }

    /// Runs `lockstep` in the project's directory, as its operator.
    ///
    /// # Errors
    /// When it cannot be run; that it fails is no error, but what is said.
    pub fn lockstep(&self, arguments: &[&str]) -> Result<CommandOutput> {
        CommandOutput::of(&mut self.command(arguments)?)
    }

    /// The command itself, for those who run it otherwise.
    ///
    /// # Errors
    /// When the command line is not built.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        command(&self.directory, arguments)
    }

    /// Runs `lockstep` and expects it to succeed.
    ///
    /// # Errors
    /// When it does not, with all that it said.
    pub fn must(&self, arguments: &[&str]) -> Result<CommandOutput> {
        let said = self.lockstep(arguments)?;
        if said.code != 0 {
            bail!(
                "lockstep {} ended with {}:\n{}{}",
                arguments.join(" "),
                said.code,
                said.stdout,
                said.stderr
            );
        }
        Ok(said)
    }

    /// The one JSON document that `lockstep … --output json` answers with.
    ///
    /// # Errors
    /// When it fails or answers something else.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut with_output = vec!["--output", "json"];
        with_output.extend(arguments);
        let said = self.must(&with_output)?;
        serde_json::from_str(&said.stdout).with_context(|| format!("not JSON: {}", said.stdout))
    }

    /// Builds an image of the example application; it is removed with the stage.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn image(&mut self, version: &str, schema: u32, environment: &[(&str, &str)]) -> Result<String> {
        let tag = format!("{}:{version}", self.application);
        self.docker.build_notes(&tag, schema, environment)?;
        self.images.push(tag.clone());
        Ok(tag)
    }

    /// An image that is made by other means is removed with the stage.
    pub fn removes(&mut self, image: &str) {
        self.images.push(image.to_owned());
    }

    /// An image on top of another, with these migrations added to its own; it is removed with the stage.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn image_with_migrations(
        &mut self,
        version: &str,
        base: &str,
        migrations: &[(&str, &str)],
    ) -> Result<String> {
        let tag = format!("{}:{version}", self.application);
        self.docker.build_with_migrations(&tag, base, migrations)?;
        self.images.push(tag.clone());
        Ok(tag)
    }

    /// The load of the demonstration, on the site.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn load(&self, rate_per_second: u32) -> Result<Load> {
        Ok(Load::start(Settings::notes(self.site, rate_per_second))?)
    }

    /// Another coordinator joins the cluster, and is called `name`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn add_coordinator(&mut self, name: &str, etcd: &Etcd) -> Result<()> {
        let own = self.directory.join(name);
        fs::DirBuilder::new().mode(0o700).create(&own)?;
        let prefix = format!("/{}", self.application);
        let settings = etcd.coordinator_settings(&etcd.certificates, &prefix);
        fs::write(own.join("coordinator.toml"), settings)?;
        let answer = self.json(&["coordinator", "token", "--name", name])?;
        let token = answer["token"].as_str().context("coordinator token gave no token")?;
        let mut command = coordinator_command(&self.directory, name)?;
        command.args(["join", "--coordinator", &coordinator_address(&self.directory)?]);
        run_with_input(&mut command, token)?;
        self.others.push(start_coordinator(&self.directory, name, &[])?);
        Ok(())
    }

    /// Another host joins, is called `name`, and has the Docker Engine behind `socket`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn add_host(&mut self, name: &str, address: IpAddr, socket: &Path) -> Result<()> {
        let own = self.directory.join(name);
        fs::DirBuilder::new().mode(0o711).create(&own)?;
        let sites = own.join("sites");
        fs::create_dir(&sites)?;
        let settings = format!("[nginx]\nsites = {sites:?}\n[docker]\nsocket = {socket:?}\n");
        fs::write(own.join("agent.toml"), settings)?;
        join(&self.directory, (name, name), address)?;
        self.hosts.push(start_agent(&self.directory, name, &[])?);
        let all = self.hosts.len() + 1;
        until("every agent is connected", READY_LIMIT, || {
            let hosts = self.json(&["host", "list"])?;
            Ok(hosts.to_string().matches("\"connected\"").count() == all)
        })?;
        self.grant(&["--host", name])
    }

    /// The one that joined as the `at`-th, started again after a kill.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_other(&mut self, at: usize, name: &str, environment: &[(&str, &str)]) -> Result<()> {
        self.others[at] = start_coordinator(&self.directory, name, environment)?;
        Ok(())
    }

    /// As [`Stage::start_other`], for one that may be killed before it is ready.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch_other(&mut self, at: usize, name: &str, environment: &[(&str, &str)]) -> Result<()> {
        self.others[at] = launch_coordinator(&self.directory, name, environment)?;
        Ok(())
    }

    /// What the coordinator of this name says when it does not begin.
    ///
    /// # Errors
    /// When it does.
    pub fn refused_coordinator(&self, name: &str) -> Result<String> {
        let mut process = launch_coordinator(&self.directory, name, &[])?;
        let mut ended = None;
        until("the coordinator has ended", READY_LIMIT, || {
            ended = process.ended()?;
            Ok(ended.is_some())
        })?;
        ensure!(ended.is_some_and(|status| !status.success()), "it ended well");
        Ok(process.tail())
    }

    /// Where the coordinator of this name listens.
    ///
    /// # Errors
    /// When it is not there.
    pub fn address_of(&self, name: &str) -> Result<String> {
        address_of(&self.directory, name)
    }

    /// Kills nothing and starts it again: for after a kill.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_coordinator(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        self.coordinator = start_coordinator(&self.directory, FIRST, environment)?;
        Ok(())
    }

    /// As [`Stage::start_coordinator`], for one that may be killed before it is ready.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch_coordinator(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        self.coordinator = launch_coordinator(&self.directory, FIRST, environment)?;
        Ok(())
    }

    /// As [`Stage::start_coordinator`].
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_agent(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        self.agent = start_agent(&self.directory, AGENT, environment)?;
        Ok(())
    }

    /// Waits until the coordinator has the agent's session.
    ///
    /// # Errors
    /// When it never has.
    pub fn wait_for_agent(&self) -> Result<()> {
        until("the agent is connected", READY_LIMIT, || {
            let hosts = self.json(&["host", "list"])?;
            Ok(hosts.to_string().contains("\"connected\""))
        })
        .with_context(|| format!("the agent said:\n{}", self.agent.tail()))
    }

    /// The project's declaration, to be changed by a test.
    pub fn deployment_yml(&self) -> PathBuf {
        self.directory.join("project/deployment.yml")
    }

    pub fn env_file(&self) -> PathBuf {
        self.directory.join("project/.env.production")
    }

    /// The label that every container of this stage has.
    pub fn label(&self) -> String {
        format!("lockstep.environment={}/production", self.application)
    }

    pub fn bridge(&self) -> IpAddr {
        self.bridge
    }
}

impl Drop for Stage {
    #[expect(
        clippy::let_underscore_must_use,
        reason = "a stage that falls should say why it fell, not what it left"
    )]
    fn drop(&mut self) {
        for agent in [&mut self.agent].into_iter().chain(&mut self.hosts) {
            let _ = agent.stop();
        }
        for coordinator in [&mut self.coordinator].into_iter().chain(&mut self.others) {
            let _ = coordinator.stop();
        }
        let _ = self.docker.remove_containers(&self.label());
        // Lockstep keeps them: they are an application's data.
        let _ = self.docker.remove_volumes(&format!("{}-", self.application));
        for image in &self.images {
            let _ = self.docker.remove_image(image);
        }
    }
}

fn make_directories(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("cannot empty {}", directory.display()))?;
    }
    fs::create_dir_all(directory.join("project"))?;
    fs::DirBuilder::new().mode(0o700).create(directory.join("coordinator"))?;
    // nginx's workers look for the switch file below it.
    fs::DirBuilder::new().mode(0o711).create(directory.join("agent"))?;
    let_enter("www-data", directory)
}

fn write_project(directory: &Path, setting: &Setting, site: SocketAddr, postgres: &Postgres) -> Result<()> {
    let Setting { application, bake, drain } = setting;
    let project = directory.join("project");
    let backups = directory.join("backups");
    let declaration = format!(
        "app: {application}\n\
         image: {{ repository: {application} }}\n\
         processes:\n  \
           web: {{ port: 8080, health: {{ path: /health, timeout: 10s }}, memory: 128Mi, stop_grace: 5s }}\n  \
           worker: {{ command: [work], role: worker, memory: 64Mi, stop_grace: 5s }}\n\
         database:\n  \
           postgres: {{ url_from: DATABASE_URL }}\n  \
           migrations: {{ path: /migrations }}\n  \
           snapshot: {{ directory: {}, keep: 3 }}\n\
         deploy: {{ bake: {bake}, drain: {drain} }}\n\
         environments:\n  \
           production:\n    \
             url: http://{site}\n    \
             mode: production\n    \
             env_file: .env.production\n    \
             required: [DATABASE_URL]\n",
        backups.display()
    );
    fs::write(project.join("deployment.yml"), declaration)?;
    let secrets = format!("ENVIRONMENT=production\nDATABASE_URL={}\n", postgres.url());
    write_private(&project.join(".env.production"), &secrets)
}

fn start_coordinator(directory: &Path, name: &str, environment: &[(&str, &str)]) -> Result<Process> {
    let address = directory.join(name).join("address");
    if address.exists() {
        fs::remove_file(&address)?;
    }
    let mut process = launch_coordinator(directory, name, environment)?;
    process.wait_until("the coordinator is ready", READY_LIMIT, || Ok(address.exists()))?;
    Ok(process)
}

fn launch_coordinator(directory: &Path, name: &str, environment: &[(&str, &str)]) -> Result<Process> {
    let mut command = coordinator_command(directory, name)?;
    command.envs(environment.iter().copied());
    Process::start(&mut command, &directory.join(format!("{name}.log")))
}

/// The coordinator with a directory and an address of its own, the same each time.
fn coordinator_command(directory: &Path, name: &str) -> Result<Command> {
    let file = directory.join(format!("{name}.listen"));
    let listen = match fs::read_to_string(&file) {
        Ok(listen) => listen,
        Err(_) => {
            let listen = format!("127.0.0.1:{}", free_port([127, 0, 0, 1].into())?);
            fs::write(&file, &listen)?;
            listen
        }
    };
    let mut command = Command::new(built("lockstep-coordinator")?);
    command.arg("--directory").arg(directory.join(name)).args(["--listen", &listen]);
    Ok(command)
}

fn start_agent(directory: &Path, own: &str, environment: &[(&str, &str)]) -> Result<Process> {
    let mut command = Command::new(built("lockstep-agent")?);
    command.arg("run").arg("--directory").arg(directory.join(own)).envs(environment.iter().copied());
    Process::start(&mut command, &directory.join(format!("{own}.log")))
}

fn coordinator_address(directory: &Path) -> Result<String> {
    address_of(directory, FIRST)
}

fn address_of(directory: &Path, coordinator: &str) -> Result<String> {
    Ok(fs::read_to_string(directory.join(coordinator).join("address"))?.trim().to_owned())
}

fn command(directory: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(built("lockstep")?);
    command
        .args(arguments)
        .current_dir(directory.join("project"))
        .env("LOCKSTEP_CREDENTIAL", directory.join("operator"))
        .env_remove("LOCKSTEP_COORDINATOR")
        .env_remove("GITHUB_STEP_SUMMARY");
    Ok(command)
}

fn log_in(directory: &Path) -> Result<()> {
    let token = fs::read_to_string(directory.join("coordinator/operator.token"))?;
    let address = coordinator_address(directory)?;
    run_with_input(&mut command(directory, &["login", "--coordinator", &address])?, &token)?;
    Ok(())
}

fn write_agent_settings(directory: &Path, nginx: &Nginx, vintage: Vintage) -> Result<()> {
    let mut settings = format!(
        "[nginx]\nbinary = {:?}\nconfiguration = {:?}\nsites = {:?}\n",
        nginx.binary(),
        nginx.configuration(),
        nginx.sites_directory()
    );
    if vintage == Vintage::Current {
        settings.push_str(&format!("logs = {:?}\n", nginx.prefix()));
    }
    fs::write(directory.join("agent/agent.toml"), settings)?;
    Ok(())
}

fn join(directory: &Path, (name, own): (&str, &str), address: IpAddr) -> Result<()> {
    let token =
        CommandOutput::of(&mut command(directory, &["--output", "json", "host", "token", "--name", name])?)?;
    let answer: Value = serde_json::from_str(&token.stdout)
        .with_context(|| format!("host token said {} {}", token.stdout, token.stderr))?;
    let token = answer["token"].as_str().context("host token gave no token")?;
    let mut command = Command::new(built("lockstep-agent")?);
    command
        .arg("join")
        .arg("--directory")
        .arg(directory.join(own))
        .args(["--coordinator", &coordinator_address(directory)?])
        .args(["--address", &address.to_string()]);
    run_with_input(&mut command, token)?;
    Ok(())
}
