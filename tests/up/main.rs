//! `lockstep up` and `lockstep down` for real: from an empty directory to a deployment, and back to nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use lockstep_core::object_name::ObjectName;
use lockstep_tests::bed::files::{let_enter, we_are_root, write_private};
use lockstep_tests::bed::ports::free_port;
use lockstep_tests::bed::program::CommandOutput;
use lockstep_tests::bed::program::process::built;
use lockstep_tests::bed::server::docker::Docker;
use lockstep_tests::bed::server::nginx::Nginx;
use lockstep_tests::bed::server::postgres::Postgres;
use lockstep_tests::bed::wait::until;

const SOON: Duration = Duration::from_secs(20);

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A machine that nobody has installed anything on, as far as one directory can be one.
struct Machine {
    root: PathBuf,
    listen: String,
    nginx: Nginx,
    docker: Docker,
    application: String,
    images: Vec<String>,
    // Last: what stands in it ends first.
    _directory: tempfile::TempDir,
}

impl Machine {
    fn new(name: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let root = directory.path().canonicalize()?;
        let_enter("www-data", &root)?;
        fs::create_dir_all(root.join("project"))?;
        fs::create_dir_all(root.join("place/agent"))?;
        let nginx = Nginx::start(&root.join("nginx"))?;
        // The system's own nginx is not for tests.
        let settings = format!(
            "[nginx]\nbinary = {:?}\nconfiguration = {:?}\nsites = {:?}\nlogs = {:?}\n",
            nginx.binary(),
            nginx.configuration(),
            nginx.sites_directory(),
            nginx.prefix()
        );
        fs::write(root.join("place/agent/agent.toml"), settings)?;
        Ok(Self {
            listen: format!("{LOOPBACK}:{}", free_port(LOOPBACK)?),
            nginx,
            docker: Docker::check()?,
            application: format!("up-{name}-{}", std::process::id()),
            images: Vec::new(),
            root,
            _directory: directory,
        })
    }

    fn place(&self) -> PathBuf {
        self.root.join("place")
    }

    fn lockstep(&self, arguments: &[&str]) -> Result<CommandOutput> {
        let mut command = Command::new(built("lockstep")?);
        command
            .args(arguments)
            .current_dir(self.root.join("project"))
            .env("LOCKSTEP_CREDENTIAL", self.root.join("operator"))
            .env_remove("LOCKSTEP_COORDINATOR")
            .env_remove("SUDO_USER");
        CommandOutput::of(&mut command)
    }

    fn up(&self, more: &[&str]) -> Result<CommandOutput> {
        let place = self.place().display().to_string();
        let own = ["up", "--directory", &place, "--without-systemd"];
        self.lockstep(&[&own, more].concat())
    }

    fn down(&self, more: &[&str]) -> Result<CommandOutput> {
        let place = self.place().display().to_string();
        self.lockstep(&[&["down", "--directory", &place], more].concat())
    }

    fn process(&self, service: &str) -> Result<u32> {
        let text = fs::read_to_string(self.place().join(format!("{service}.pid")))?;
        Ok(text.trim().parse()?)
    }

    fn processes(&self) -> Result<[u32; 2]> {
        Ok([self.process("coordinator")?, self.process("agent")?])
    }

    /// Every process that has this machine's place in its arguments.
    fn there(&self) -> Result<String> {
        let place = self.place().display().to_string();
        let found = Command::new("pgrep").args(["--full", "--list-full", &place]).output()?;
        Ok(String::from_utf8_lossy(&found.stdout).into_owned())
    }

    fn label(&self) -> String {
        format!("lockstep.environment={}/production", self.application)
    }
}

impl Drop for Machine {
    #[expect(clippy::let_underscore_must_use, reason = "a test that fails should say why, and not this")]
    fn drop(&mut self) {
        let _ = self.down(&[]);
        let _ = self.docker.remove_containers(&self.label());
        for image in &self.images {
            let _ = self.docker.remove_image(image);
        }
    }
}

/// A process that is not ours to end.
struct Bystander(Child);

impl Bystander {
    fn start() -> Result<Self> {
        Ok(Self(Command::new("sleep").arg("600").spawn()?))
    }
}

impl Drop for Bystander {
    #[expect(clippy::let_underscore_must_use, reason = "one that has ended already cannot be killed")]
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_alive(process: u32) -> bool {
    // Empty for one that is dead and not fetched by its parent.
    fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|command| !command.is_empty())
}

/// Only root can do this: for another user these are shown as ignored, and it is tried that `up` says so.
fn main() -> std::process::ExitCode {
    let is_root = we_are_root();
    let trial = |name: &str, test: fn() -> Result<()>| {
        Trial::test(name, move || test().map_err(|error| Failed::from(format!("{error:?}"))))
    };
    let of_root = [
        trial(
            "up_twice_changes_nothing_and_down_ends_only_what_up_started",
            up_twice_changes_nothing_and_down_ends_only_what_up_started,
        ),
        trial(
            "what_up_made_deploys_and_what_was_deployed_outlives_it",
            what_up_made_deploys_and_what_was_deployed_outlives_it,
        ),
        trial("what_is_in_the_way_is_said", what_is_in_the_way_is_said),
        trial(
            "a_coordinator_on_loopback_is_opened_to_other_hosts",
            a_coordinator_on_loopback_is_opened_to_other_hosts,
        ),
    ];
    let of_another = trial("up_refuses_without_root", up_refuses_without_root).with_ignored_flag(is_root);
    let of_root = of_root.map(|trial| trial.with_ignored_flag(!is_root));
    let trials = of_root.into_iter().chain([of_another]).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn up_refuses_without_root() -> Result<()> {
    ensure!(!we_are_root(), "this is root: another user has to run it");
    let output = Command::new(built("lockstep")?).arg("up").output()?;
    ensure!(output.status.code() == Some(3));
    ensure!(String::from_utf8_lossy(&output.stderr).contains("lockstep up needs root"));
    Ok(())
}

fn up_twice_changes_nothing_and_down_ends_only_what_up_started() -> Result<()> {
    let machine = Machine::new("twice")?;
    let said = machine.up(&["--listen", &machine.listen, "--name", "app-1"])?;
    said.check(0, &["did      started lockstep-coordinator", "did      joined as the host app-1", "Ready;"])?;
    let processes = machine.processes()?;

    let said = machine.up(&[])?;
    said.check(0, &["there    lockstep-agent", "Everything was there; nothing was changed."])?;
    ensure!(!said.stdout.contains("did "), "{}", said.stdout);
    ensure!(machine.processes()? == processes, "they were started anew");
    let hosts = machine.lockstep(&["host", "list"])?;
    hosts.check(0, &["app-1", "app,lb,db", "connected"])?;
    machine
        .up(&["--listen", "192.0.2.1:7443"])?
        .check(3, &["cannot listen on 192.0.2.1:7443", "ip -brief"])?;
    ensure!(machine.processes()? == processes, "they were ended for an address that no program can have");
    machine.up(&["--address", "192.0.2.1"])?.check(3, &["app-1 has the address", "not 192.0.2.1"])?;

    // Killed, and not ended: the other goes on, and its address file is not believed.
    let [coordinator, agent] = processes;
    ensure!(Command::new("kill").args(["-9", &coordinator.to_string()]).status()?.success());
    until("the coordinator is dead", SOON, || Ok(!is_alive(coordinator)))?;
    machine.up(&[])?.check(0, &["did      started lockstep-coordinator", "there    lockstep-agent"])?;
    ensure!(machine.process("agent")? == agent);

    machine
        .down(&[])?
        .check(0, &["stopped lockstep-agent", "stopped lockstep-coordinator", "keep serving"])?;
    ensure!(machine.there()?.is_empty(), "{}", machine.there()?);
    machine.down(&[])?.check(0, &["Nothing was running"])?;

    // As after a reboot: the number in the file is somebody else's.
    let bystander = Bystander::start()?;
    fs::write(machine.place().join("agent.pid"), bystander.0.id().to_string())?;
    machine.down(&[])?.check(0, &["lockstep-agent does not run"])?;
    fs::write(machine.place().join("agent.pid"), bystander.0.id().to_string())?;
    machine.up(&[])?.check(0, &["did      started lockstep-agent", "there    the host app-1"])?;
    machine.lockstep(&["host", "list"])?.check(0, &["connected"])?;
    ensure!(is_alive(bystander.0.id()), "a process that is not ours was ended");

    machine
        .down(&["--purge"])?
        .check(3, &["This will be removed", "--purge --yes", "nothing was removed"])?;
    ensure!(is_alive(machine.process("agent")?), "it was ended although nothing was confirmed");
    machine.down(&["--purge", "--yes"])?.check(0, &["stopped lockstep-agent", "removed"])?;
    ensure!(!machine.place().exists() && !machine.root.join("operator").exists());
    ensure!(machine.there()?.is_empty(), "{}", machine.there()?);
    Ok(())
}

fn what_up_made_deploys_and_what_was_deployed_outlives_it() -> Result<()> {
    let mut machine = Machine::new("deploys")?;
    let bridge = machine.docker.bridge_address()?;
    let postgres = Postgres::start(&machine.root.join("postgres"), bridge)?;
    let site = SocketAddr::new(LOOPBACK, free_port(LOOPBACK)?);
    write_project(&machine, site, &postgres)?;
    let image = format!("{}:1.0.0", machine.application);
    machine.docker.build_notes(&image, 1, &[])?;
    machine.images.push(image.clone());

    let said = machine.up(&["--listen", &machine.listen])?;
    said.check(0, &["lockstep deploy production", &format!(" at {bridge}")])?;
    let snapshots = machine.root.join("snapshots").display().to_string();
    let grant = ["env", "grant", "production", "--snapshot-directory", &snapshots];
    machine.lockstep(&grant)?.check(0, &["may use"])?;
    machine.lockstep(&["deploy", "production", "--image", &image])?.check(0, &["succeeded"])?;
    ensure!(get(site)?.to_ascii_lowercase().contains("x-version: 1.0.0"), "it does not serve");

    // nginx finds the live slot by a file of the agent: it cannot go while the site is there.
    let key = format!("{}/production", machine.application).parse()?;
    let name = format!("lockstep-{}.conf", ObjectName::encode(&key));
    let installed = machine.nginx.sites_directory().join(name);
    let refused = machine.down(&["--purge", "--yes"])?;
    refused.check(3, &["applications are served from this directory", &installed.display().to_string()])?;
    machine.down(&[])?.check(0, &["keep serving"])?;
    ensure!(get(site)?.starts_with("HTTP/1.1 200"), "the site went with the services");
    fs::remove_file(installed)?;
    machine.down(&["--purge", "--yes"])?.check(0, &["removed"])?;
    ensure!(!machine.place().exists());
    Ok(())
}

fn what_is_in_the_way_is_said() -> Result<()> {
    let machine = Machine::new("way")?;
    let taken = TcpListener::bind((LOOPBACK, 0))?;
    let address = taken.local_addr()?.to_string();
    let said = machine.up(&["--listen", &address])?;
    said.check(3, &[&format!("cannot listen on {address}"), "ss -ltnp"])?;
    ensure!(!machine.place().join("coordinator").exists(), "a refusal leaves folders behind");
    drop(taken);
    fs::create_dir_all(machine.place().join("agent"))?;
    fs::write(machine.place().join("agent/agent.toml"), "[nginx]\nbinary = \"/nonexistent/nginx\"\n")?;
    machine.up(&[])?.check(3, &["nginx is not installed", "apt-get install nginx"])?;
    machine.up(&["--roles", "app,db", "--listen", &address])?.check(0, &["Ready;"])?;
    machine.lockstep(&["host", "list"])?.check(0, &["app,db", "connected"])?;

    // An operator of one cluster does not lose that by setting up another.
    let other = Machine::new("other")?;
    let credential = machine.root.join("operator").display().to_string();
    let said = other.up(&["--listen", &other.listen, "--credential", &credential])?;
    said.check(3, &["has the credential of another cluster", "--credential DIR"])?;
    machine.lockstep(&["host", "list"])?.check(0, &["connected"])?;
    Ok(())
}

fn a_coordinator_on_loopback_is_opened_to_other_hosts() -> Result<()> {
    let machine = Machine::new("opened")?;
    machine.up(&["--listen", &machine.listen, "--name", "app-1"])?.check(0, &["Ready;"])?;
    // Every host has this address, and on none of them a port is taken by the one before.
    let bridge = machine.docker.bridge_address()?;
    let open = SocketAddr::new(bridge, free_port(bridge)?).to_string();
    let said = machine.up(&["--listen", &open])?;
    said.check(
        0,
        &[&format!("did      the coordinator listens on {open}"), "there    the host app-1", "Ready;"],
    )?;
    machine.lockstep(&["host", "list"])?.check(0, &["app-1", "connected"])?;
    let token = machine.lockstep(&["host", "token", "--name", "app-2", "--role", "app"])?;
    token.check(0, &[&format!("lockstep-agent join --coordinator {open}")])?;
    machine.up(&[])?.check(0, &["Everything was there; nothing was changed."])?;
    machine.down(&["--purge", "--yes"])?.check(0, &["removed"])?;
    Ok(())
}

fn write_project(machine: &Machine, site: SocketAddr, postgres: &Postgres) -> Result<()> {
    let project = machine.root.join("project");
    let declaration = format!(
        "app: {}\nimage: {0}\nport: 8080\n\
         database: {{ postgres: {{ url_from: DATABASE_URL }}, migrations: {{ path: /migrations }}, \
         snapshot: {{ directory: {} }} }}\n\
         deploy: {{ bake: 1s, drain: 1s }}\n\
         environments: {{ production: {{ url: \"http://{site}\" }} }}\n",
        machine.application,
        machine.root.join("snapshots").display()
    );
    fs::write(project.join("deployment.yml"), declaration)?;
    write_private(&project.join(".env.production"), &format!("DATABASE_URL={}\n", postgres.url()))
}

fn get(site: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(site).with_context(|| format!("nobody listens on {site}"))?;
    stream.set_read_timeout(Some(SOON))?;
    write!(stream, "GET / HTTP/1.0\r\nHost: {}\r\n\r\n", site.ip())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
