//! The transfers in progress: which host gives each one, and which host takes it.
//!
//! What must stay true: only the host that was asked gives an image, and only the host that it is sent to takes it,
//! once.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lockstep_core::id::HostId;
use lockstep_proto::wire;
use tokio::sync::mpsc;
use tonic::Status;

/// What was taken from one side and not yet by the other.
const PARTS_MAX: usize = 4;

pub(super) type Part = Result<wire::ImagePart, Status>;

#[derive(Default)]
pub(super) struct Transfers {
    // Held for a look-up or a change, never across an await.
    begun: Mutex<BTreeMap<String, Transfer>>,
}

enum Transfer {
    /// Who takes it waits for what `from` gives.
    Asked { from: HostId, parts: mpsc::Sender<Part> },
    /// What an operator sends waits for `to`.
    Sent { to: HostId, parts: mpsc::Receiver<Part> },
}

/// A transfer; it is forgotten when this is dropped.
pub(super) struct TransferGuard<'a> {
    transfers: &'a Transfers,
    transfer: String,
}

impl Transfers {
    /// Begins one that `from` is asked for. An end for who takes it, and one for who tells them why it does not come.
    pub(super) fn ask(
        &self,
        transfer: &str,
        from: &HostId,
    ) -> (TransferGuard<'_>, mpsc::Sender<Part>, mpsc::Receiver<Part>) {
        let (parts, taken) = mpsc::channel(PARTS_MAX);
        (self.begin(transfer, Transfer::Asked { from: from.clone(), parts: parts.clone() }), parts, taken)
    }

    /// Begins one that is sent to `to`.
    pub(super) fn send(&self, transfer: &str, to: &HostId) -> (TransferGuard<'_>, mpsc::Sender<Part>) {
        let (parts, taken) = mpsc::channel(PARTS_MAX);
        (self.begin(transfer, Transfer::Sent { to: to.clone(), parts: taken }), parts)
    }

    /// Where `from` puts what it was asked for; `None` if it was not asked.
    pub(super) fn given_by(&self, from: &HostId, transfer: &str) -> Option<mpsc::Sender<Part>> {
        match self.lock().get(transfer)? {
            Transfer::Asked { from: asked, parts } if asked == from => Some(parts.clone()),
            Transfer::Asked { .. } | Transfer::Sent { .. } => None,
        }
    }

    /// What is sent to `to`; `None` if it is not, or was taken.
    pub(super) fn taken_by(&self, to: &HostId, transfer: &str) -> Option<mpsc::Receiver<Part>> {
        let mut begun = self.lock();
        match begun.get(transfer)? {
            Transfer::Sent { to: theirs, .. } if theirs == to => {}
            Transfer::Sent { .. } | Transfer::Asked { .. } => return None,
        }
        match begun.remove(transfer)? {
            Transfer::Sent { parts, .. } => Some(parts),
            Transfer::Asked { .. } => None,
        }
    }

    fn begin(&self, transfer: &str, how: Transfer) -> TransferGuard<'_> {
        self.lock().insert(transfer.to_owned(), how);
        TransferGuard { transfers: self, transfer: transfer.to_owned() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Transfer>> {
        // Every change is one insertion or removal: the map is whole also after a panic elsewhere.
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TransferGuard<'_> {
    fn drop(&mut self) {
        self.transfers.lock().remove(&self.transfer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> [HostId; 2] {
        ["host_01JBQR2KXYZ987654321012345", "host_01JBQR2KXYZ987654321012346"].map(|id| id.parse().unwrap())
    }

    #[test]
    fn only_who_was_asked_gives_and_only_while_it_is_waited_for() {
        let (transfers, [asked, other]) = (Transfers::default(), hosts());
        let (begun, _parts, _taken) = transfers.ask("t", &asked);
        assert!(transfers.given_by(&asked, "t").is_some());
        assert!(transfers.given_by(&other, "t").is_none());
        assert!(transfers.taken_by(&asked, "t").is_none() && transfers.taken_by(&other, "t").is_none());
        drop(begun);
        assert!(transfers.given_by(&asked, "t").is_none());
    }

    #[test]
    fn only_to_whom_it_is_sent_takes_it_and_once() {
        let (transfers, [to, other]) = (Transfers::default(), hosts());
        let (_begun, _parts) = transfers.send("t", &to);
        assert!(transfers.given_by(&to, "t").is_none() && transfers.given_by(&other, "t").is_none());
        assert!(transfers.taken_by(&other, "t").is_none());
        assert!(transfers.taken_by(&to, "t").is_some());
        assert!(transfers.taken_by(&to, "t").is_none());
    }
}
