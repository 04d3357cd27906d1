//! The coordinators of the cluster.

use lockstep_core::view::coordinator::{CoordinatorStatus, RootKey};
use lockstep_proto::wire;

use crate::command::reply::{read_all, show_done, show_token};
use crate::context::Context;
use crate::failure::Result;
use crate::output::{Tone, ago};

pub async fn list(context: &Context) -> Result<()> {
    let reply = context.control().await?.list_coordinators(wire::ListRequest {}).await?.into_inner();
    let statuses: Vec<CoordinatorStatus> = read_all(&reply.coordinators)?;
    context.output.json(&statuses)?;
    let mut rows = vec![
        ["coordinator", "address", "lease", "version", "hosts", "drives"].map(ToOwned::to_owned).to_vec(),
    ];
    for status in &statuses {
        let drives: Vec<String> = status.drives.iter().map(ToString::to_string).collect();
        let (lease, version) = match &status.presence {
            Some(presence) => (format!("since {}", ago(presence.since)), presence.version.clone()),
            None => (context.output.toned(Tone::Bad, "no lease"), String::new()),
        };
        rows.push(vec![
            status.name.to_string(),
            status.address.clone(),
            lease,
            version,
            status.sessions.to_string(),
            drives.join(", "),
        ]);
    }
    context.output.table(&rows)?;
    match statuses.iter().find(|status| status.root_key == RootKey::Here) {
        Some(root) if statuses.len() > 1 => {
            context.output.line(&format!("{} holds the root key: new coordinators join there", root.name))
        }
        Some(_) | None => Ok(()),
    }
}

pub async fn create_token(context: &Context, name: Option<String>) -> Result<()> {
    let request = wire::CoordinatorRef { name: name.unwrap_or_default() };
    let mut control = context.control().await?;
    let reply = control.create_coordinator_token(request).await?.into_inner();
    let all = control.list_coordinators(wire::ListRequest {}).await?.into_inner();
    let statuses: Vec<CoordinatorStatus> = read_all(&all.coordinators)?;
    let root = statuses.iter().find(|status| status.root_key == RootKey::Here);
    let address = root.map_or("HOST:PORT", |root| root.address.as_str());
    show_token(context, &reply, &format!("lockstep-coordinator join --coordinator {address}"))
}

pub async fn remove(context: &Context, name: String) -> Result<()> {
    let request = wire::CoordinatorRef { name };
    let done = context.control().await?.remove_coordinator(request).await?.into_inner();
    show_done(context, &done)
}
