//! A declaration for hosts that are simulated: there is no database, and nothing of it needs a real part.

use std::collections::BTreeMap;

use anyhow::Result;
use lockstep_core::name::EnvironmentKey;
use lockstep_core::spec::{
    DeploySpec, EnvironmentSpec, HealthSpec, HostRoles, ImageSource, Mode, ProcessSpec, Role, Standby, Tls,
    TrafficSpec,
};
use lockstep_core::time::Millis;

/// A web process on port 8080 that answers `/health` within `timeout`, asked each `interval`.
pub fn web_process(timeout: Millis, interval: Millis) -> ProcessSpec {
    ProcessSpec {
        role: Role::Web,
        command: Vec::new(),
        port: Some(8080),
        health: HealthSpec { path: "/health".to_owned(), timeout, interval, consecutive: 3 },
        volumes: Vec::new(),
        memory_bytes: None,
        cpu_milli: None,
        user: None,
        stop_signal: None,
        stop_grace: Millis::from_secs(10),
        standby: Standby::Run,
    }
}

/// One web process on every host; the first is the load balancer too. Nothing is waited for by the clock.
///
/// # Errors
/// When a name is none.
pub fn one_web_process(environment: &str, hosts: &[String]) -> Result<EnvironmentSpec> {
    let web = web_process(Millis::from_secs(30), Millis::from_secs(1));
    let key: EnvironmentKey = environment.parse()?;
    let repository = key.application.to_string();
    Ok(EnvironmentSpec {
        url: format!("http://{repository}.example"),
        key,
        description: None,
        branch: None,
        mode: Mode::Production,
        image: ImageSource::Repository(repository),
        processes: BTreeMap::from([("web".parse()?, web)]),
        database: None,
        traffic: TrafficSpec {
            body_limit: "10m".to_owned(),
            connect_timeout: TrafficSpec::connect_timeout(),
            send_timeout: TrafficSpec::send_timeout(),
            read_timeout: Millis::from_secs(60),
            tls: Tls::Off,
        },
        networks: Vec::new(),
        deploy: DeploySpec {
            lock_timeout: Millis::from_secs(1800),
            drain: Millis(0),
            bake: Millis(0),
            parallel: None,
            quorum: None,
            log_directory: None,
            state_file: None,
        },
        env: BTreeMap::new(),
        required: Vec::new(),
        public: Vec::new(),
        hosts: HostRoles {
            app: hosts.iter().map(|host| host.parse()).collect::<Result<_, _>>()?,
            lb: hosts.first().map(|host| host.parse()).transpose()?.into_iter().collect(),
            db: Vec::new(),
        },
    })
}
