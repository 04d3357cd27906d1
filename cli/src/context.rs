//! Where a command runs: the project, the credential, the coordinator.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lockstep_core::name::EnvironmentKey;
use lockstep_core::secret::Secret;
use lockstep_proto::dial::{ANSWER_BYTES_MAX, Credential, DialError};
use lockstep_proto::wire::control_client::ControlClient;
use lockstep_proto::{dial, trace, wire};
use tokio::sync::OnceCell;
use tonic::Request;
use tonic::transport::Channel;

use crate::args::Arguments;
use crate::clock::now;
use crate::credential;
use crate::deployment_yml::{DeclarationError, DeclaredEnvironment, Effective, Project};
use crate::failure::{Failure, Kind, Result};
use crate::output::Output;
use crate::this_machine::{ThisMachine, is_of_this_machine};

/// The variable with the token of a machine.
const TOKEN: &str = "LOCKSTEP_TOKEN";

/// How long a coordinator may take to list the others.
const LEARN_LIMIT: Duration = Duration::from_secs(2);

pub struct Context {
    pub output: Output,
    directory: PathBuf,
    credential: PathBuf,
    coordinator: Option<String>,
    traceparent: String,
    /// Of a machine that has no credential.
    token: Option<Secret>,
    /// What the token has given.
    joined: OnceCell<Credential>,
    // Replaced as a whole: it is whole also when a thread died with the lock.
    learned: Mutex<Vec<String>>,
}

impl Context {
    /// # Errors
    /// When the current directory or the home is unknown.
    pub fn new(arguments: &Arguments) -> Result<Self> {
        let directory = std::env::current_dir().map_err(|error| {
            Failure::new(Kind::Usage, "the current directory cannot be read").why(error.to_string())
        })?;
        let credential = match &arguments.credential {
            Some(directory) => directory.clone(),
            None => std::env::home_dir()
                .ok_or_else(|| {
                    Failure::new(Kind::Usage, "there is no home directory")
                        .why("the credential is in ~/.config/lockstep, unless --credential names another directory")
                        .next("export LOCKSTEP_CREDENTIAL=DIR")
                })?
                .join(".config/lockstep"),
        };
        Ok(Self {
            output: Output::new(arguments.output),
            directory,
            credential,
            coordinator: arguments.coordinator.clone(),
            traceparent: arguments.traceparent.clone().unwrap_or_default(),
            // No argument: everybody on the machine sees those.
            token: std::env::var(TOKEN).ok().filter(|token| !token.is_empty()).map(Secret::new),
            joined: OnceCell::new(),
            learned: Mutex::default(),
        })
    }

    #[cfg(test)]
    pub(crate) fn for_tests(directory: &Path) -> Self {
        Self {
            output: Output::in_pipe(),
            directory: directory.to_owned(),
            credential: directory.join("credential"),
            coordinator: None,
            traceparent: String::new(),
            token: None,
            joined: OnceCell::new(),
            learned: Mutex::default(),
        }
    }

    /// The coordinator's API, as the operator.
    ///
    /// # Errors
    /// When there is no credential, or the coordinator cannot be reached.
    pub async fn control(&self) -> Result<ControlClient<Channel>> {
        if let Some(token) = &self.token {
            return self.control_of_machine(token).await;
        }
        let machine = ThisMachine::look();
        let (credential, stored) = self.load_credential(&machine)?;
        credential::check(&credential, now())?;
        let named = self.coordinator.as_deref().unwrap_or(&stored);
        let client = |channel| ControlClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        let mut failed = None;
        for address in self.addresses(named, &machine) {
            match dial::connect(&address, &credential).await {
                Ok(channel) => {
                    let (credential, channel) = match self.renew_if_old(&address, &credential).await {
                        Some(renewed) => (renewed.clone(), dial::connect(&address, &renewed).await?),
                        None => (credential, channel),
                    };
                    let control = client(channel);
                    let roots = self.learn_addresses(control.clone(), &stored).await;
                    if let Some(current) = self.renew_if_other_root(&address, &credential, &roots).await {
                        return Ok(client(dial::connect(&address, &current).await?));
                    }
                    return Ok(control);
                }
                // Another may answer. If none does, the first error says most about what is wrong.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.map_or_else(
            || {
                Failure::new(Kind::Usage, "the address of the coordinator is unknown")
                    .why("neither --coordinator nor the credential names one")
                    .next("lockstep login --coordinator HOST:PORT")
            },
            |error| Failure::unreachable(error, &machine),
        ))
    }

    /// The coordinator's API, as the machine of this token. Nothing is stored.
    async fn control_of_machine(&self, token: &Secret) -> Result<ControlClient<Channel>> {
        let Some(named) = self.coordinator.as_deref() else {
            return Err(Failure::new(Kind::Usage, "the address of the coordinator is unknown")
                .why(format!("{TOKEN} is set, and neither --coordinator nor LOCKSTEP_COORDINATOR is"))
                .next("export LOCKSTEP_COORDINATOR=HOST:PORT"));
        };
        let mut failed = None;
        for address in credential::all_addresses(named, &[]) {
            let joined = self.joined.get_or_try_init(|| async {
                let joined = dial::join(&address, token.expose(), "", "").await?;
                Ok::<_, DialError>(joined.credential)
            });
            let connected = async { dial::connect(&address, joined.await?).await };
            match connected.await {
                Ok(channel) => {
                    return Ok(ControlClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX));
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.map_or_else(
            || Failure::new(Kind::Usage, "LOCKSTEP_COORDINATOR names no address"),
            |error| Failure::unreachable(error, &ThisMachine::look()),
        ))
    }

    /// The operator's credential, and the addresses that go with it.
    ///
    /// # Errors
    /// When there is none, with the command that gets one on this machine.
    pub fn load_credential(&self, machine: &ThisMachine) -> Result<(Credential, String)> {
        credential::load(&self.credential).map_err(|error| Failure::without_credential(error, machine))
    }

    /// A request that continues the trace of the caller.
    pub fn traced<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        trace::carry(&self.traceparent, request.metadata_mut());
        request
    }

    /// The addresses to dial: those that were named, those that were learned, and the one to which the coordinator of this
    /// machine was moved since.
    fn addresses(&self, named: &str, machine: &ThisMachine) -> Vec<String> {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = credential::all_addresses(named, &learned);
        let moved = machine.listen().filter(|listen| !all.iter().any(|address| address == listen));
        if let Some(moved) = moved.filter(|_| all.iter().any(|address| machine.has_coordinator_at(address))) {
            all.push(moved.to_owned());
        }
        all
    }

    /// Learns the addresses of all coordinators, for when this one does not answer. An error is not reported here: the
    /// call that follows reports it. Returns the roots that the cluster trusts; empty if the coordinator does not say.
    async fn learn_addresses(&self, mut control: ControlClient<Channel>, stored: &str) -> String {
        let asked = tokio::time::timeout(LEARN_LIMIT, control.about(wire::ListRequest {})).await;
        let Ok(Ok(reply)) = asked else { return String::new() };
        let wire::AboutReply { addresses: learned, authority, .. } = reply.into_inner();
        if let Err(error) = credential::store_addresses(&self.credential, stored, &learned) {
            self.output.remark(&format!("cannot store the addresses of the coordinators: {error}"));
        }
        *self.learned.lock().unwrap_or_else(PoisonError::into_inner) = learned;
        authority
    }

    /// A renewed credential if this one is in the last third of its lifetime, so that whoever uses it need not log in
    /// again.
    async fn renew_if_old(&self, address: &str, credential: &Credential) -> Option<Credential> {
        let is_old = credential::validity(&credential.certificate)
            .is_some_and(|(begins, ends)| ends.since(now()).0 < ends.since(begins).0 / 3);
        if !is_old {
            return None;
        }
        self.renew(address, credential, "your certificate expires soon").await
    }

    /// A renewed credential if the cluster trusts other roots than this one, or if another root signs.
    async fn renew_if_other_root(
        &self,
        address: &str,
        credential: &Credential,
        roots: &str,
    ) -> Option<Credential> {
        if dial::is_current(credential, roots) {
            return None;
        }
        self.renew(address, credential, "the cluster has a new root").await
    }

    async fn renew(&self, address: &str, credential: &Credential, why: &str) -> Option<Credential> {
        let renewed = match dial::renew(address, credential).await {
            Ok(renewed) => renewed,
            // It is valid for some time yet. When it is not, the call itself reports that.
            Err(error) => {
                self.output.remark(&format!("{why}, but your certificate cannot be renewed: {error}"));
                return None;
            }
        };
        if let Err(error) = credential::renew(&self.credential, &renewed) {
            self.output.remark(&format!("cannot store the renewed certificate: {error}"));
        }
        Some(renewed)
    }

    /// The address at which another machine reaches a coordinator: the one that this operator uses, unless only this
    /// machine reaches it.
    ///
    /// # Errors
    /// When there is no credential.
    pub fn reached_at(&self) -> Result<String> {
        let (_, stored) = credential::load(&self.credential)?;
        let named = self.coordinator.as_deref().unwrap_or(&stored);
        let all = self.addresses(named, &ThisMachine::look());
        let elsewhere = all.iter().find(|address| !is_of_this_machine(address));
        Ok(elsewhere.or(all.first()).cloned().unwrap_or_default())
    }

    /// The failure with the names in its hint that this command knows, so that the hint can be pasted.
    pub fn complete_hint(&self, failure: Failure, env: Option<&str>) -> Failure {
        let failure = if self.token.is_some() { failure.of_machine() } else { failure };
        let failure = match env {
            Some(env) => failure.in_environment(env),
            None => failure,
        };
        match self.known_address() {
            Some(address) => failure.at_coordinator(&address),
            None => failure,
        }
    }

    /// The address of a coordinator: one that was named, else one in the credential; `None` if neither has one.
    pub fn known_address(&self) -> Option<String> {
        let named = self.coordinator.clone();
        let known = named.or_else(|| credential::load(&self.credential).ok().map(|(_, stored)| stored))?;
        known.split(',').map(|address| address.trim().to_owned()).find(|address| !address.is_empty())
    }

    /// The coordinator that was named.
    ///
    /// # Errors
    /// When none was.
    pub fn coordinator(&self) -> Result<&str> {
        self.coordinator.as_deref().ok_or_else(|| {
            Failure::new(Kind::Usage, "no coordinator was given")
                .why("a login needs the address of a coordinator")
                .next("lockstep login --coordinator HOST:PORT < token")
        })
    }

    /// Logs in as the operator of a token, and returns the operator's name.
    ///
    /// # Errors
    /// When the token is refused.
    pub async fn log_in(&self, address: &str, token: &str) -> Result<String> {
        let joined = dial::join(address, token, "", "").await?;
        credential::save(&self.credential, &joined, address)?;
        Ok(joined.identity)
    }

    /// The directory of the operator's credential.
    pub fn credential(&self) -> &Path {
        &self.credential
    }

    /// The project of the current directory.
    ///
    /// # Errors
    /// When there is none.
    pub fn project(&self) -> Result<Project> {
        Ok(Project::find(&self.directory)?)
    }

    /// The project's environment of this name, which may be written as `<app>/<env>`.
    ///
    /// # Errors
    /// When it is not declared here.
    pub fn declared(&self, name: &str) -> Result<DeclaredEnvironment> {
        let project = self.project_of(name)?;
        Ok(project.environment(own_name(&project, name)?)?)
    }

    /// The project of the current directory, for a command that reads its file.
    fn project_of(&self, name: &str) -> Result<Project> {
        self.project_or(|missing| match name.split_once('/') {
            Some((application, _)) => missing.next(format!(
                "cd DIR    # the directory with the deployment.yml of {application}: this command reads it"
            )),
            None => missing,
        })
    }

    /// The project of the current directory. `help` adds what to do where there is none.
    fn project_or(&self, help: impl FnOnce(Failure) -> Failure) -> Result<Project> {
        Project::find(&self.directory).map_err(|error| match error {
            DeclarationError::Missing { .. } => help(error.into()),
            DeclarationError::Read { .. }
            | DeclarationError::TooLarge { .. }
            | DeclarationError::Parse { .. }
            | DeclarationError::NoEnvironment { .. }
            | DeclarationError::Problems { .. } => error.into(),
        })
    }

    /// Whether the current directory is the project of the application in `<app>/<env>`.
    pub fn is_in_project_of(&self, name: &str) -> bool {
        let application = name.split('/').next().unwrap_or_default();
        self.project().is_ok_and(|project| project.application().as_str() == application)
    }

    /// Every value of an environment of the project, and where it is set.
    ///
    /// # Errors
    /// As [`Context::declared`].
    pub fn effective(&self, name: &str) -> Result<Vec<Effective>> {
        let project = self.project_of(name)?;
        Ok(project.effective(own_name(&project, name)?)?)
    }

    /// The key of an environment, from its name here or from `<app>/<env>` anywhere.
    ///
    /// # Errors
    /// When neither names one.
    pub fn key(&self, name: &str) -> Result<EnvironmentKey> {
        if name.contains('/') {
            return name.parse().map_err(|error| Failure::new(Kind::Usage, format!("{error}")));
        }
        let project = self.project_or(|missing| {
            missing.or("lockstep env list    # then name it as <app>/<env>, from any directory")
        })?;
        // An environment that the file does not declare any more is reached as <app>/<env>. Here a typing mistake is
        // answered.
        Ok(project.environment(name)?.spec.key)
    }

    /// The current directory, for git and Docker.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// The name of an environment within its project; it may be written as `<app>/<env>`.
fn own_name<'a>(project: &Project, name: &'a str) -> Result<&'a str> {
    match name.split_once('/') {
        Some((application, own)) if application == project.application().as_str() => Ok(own),
        Some((application, _)) => Err(Failure::new(
            Kind::Refused,
            format!("this is the project of {}, not of {application}", project.application()),
        )
        .why("the command reads the deployment.yml of the application")
        .next(format!("cd DIR    # the directory with the deployment.yml of {application}"))),
        None => Ok(name),
    }
}

/// All of standard input.
///
/// # Errors
/// When it is not text.
pub fn read_input() -> Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(Kind::Usage, "standard input cannot be read").why(error.to_string()))?;
    Ok(text)
}

/// What must be in no history: all of standard input, or what is typed at a terminal, which does not show it.
///
/// # Errors
/// When it cannot be read, or nothing was typed.
pub fn read_secret(context: &Context, what: &str) -> Result<String> {
    if !std::io::stdin().is_terminal() {
        return read_input();
    }
    context.output.ask(&format!("{what}, which is not shown:"));
    let typed = console::Term::stderr()
        .read_secure_line()
        .map_err(|error| Failure::new(Kind::Usage, "the terminal cannot be read").why(error.to_string()))?;
    if typed.is_empty() {
        return Err(Failure::new(Kind::Usage, "nothing was typed").why("nothing was changed"));
    }
    Ok(typed)
}

/// One line of standard input, without the white space around it.
///
/// # Errors
/// When it is not text.
pub fn read_line() -> Result<String> {
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|error| Failure::new(Kind::Usage, "standard input cannot be read").why(error.to_string()))?;
    Ok(line.trim().to_owned())
}

/// This process, as the lock of an environment shows it.
pub fn client() -> wire::Client {
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    wire::Client { hostname, pid: std::process::id() }
}

pub fn environment_ref(key: &EnvironmentKey, limit: u32) -> wire::EnvironmentRef {
    wire::EnvironmentRef { environment: key.to_string(), limit }
}
