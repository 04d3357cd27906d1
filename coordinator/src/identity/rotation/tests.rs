//! A rotation, step by step, over a store.

use lockstep_core::id::ClusterId;
use lockstep_proto::dial::Credential;
use tempfile::TempDir;

use super::*;
use crate::ports::clock::SystemClock;
use crate::store::memory::MemoryStore;

const NOW: Timestamp = Timestamp(1_769_596_200_000);

/// A cluster of two coordinators, the first with the root's key.
struct Cluster {
    store: MemoryStore,
    first: Authority,
    second: Authority,
    directory: TempDir,
}

impl Cluster {
    async fn new() -> Self {
        let store = MemoryStore::new(Arc::new(SystemClock));
        let directory = tempfile::tempdir().unwrap();
        let first = open(&directory, "first");
        coordinators::enlist(&store, &first, "127.0.0.1:1", NOW).await.unwrap();
        let (key, request) = authority::request().unwrap();
        let (name, issued, root) = first.issue_authority(&request, &"c2".parse().unwrap(), NOW).unwrap();
        let record = Coordinator {
            name: name.coordinator,
            address: "127.0.0.1:2".to_owned(),
            authority: name.id,
            root: roots::pin(&root),
            earlier: None,
            root_key: RootKey::Elsewhere,
            joined: NOW,
        };
        let (guard, write) = coordinators::joining(&record);
        store.commit(vec![guard], vec![write]).await.unwrap();
        let credential = Credential {
            key: key.serialize_pem(),
            certificate: issued.certificate,
            authority: first.bundle(),
        };
        Authority::adopt(&directory.path().join("second"), &credential).unwrap();
        let second = open(&directory, "second");
        Self { store, first, second, directory }
    }

    /// The second has what the first gives it, as [`catch_up`] asks for over the network.
    fn prepared(&self) {
        let (key, request) = authority::request().unwrap();
        let (_, issued, root) = self.first.issue_authority(&request, self.second.coordinator(), NOW).unwrap();
        self.second.prepare_issuing(&key, issued.certificate, root).unwrap();
    }

    async fn counts(&self, authority: &Authority) -> bool {
        coordinators::counts(&self.store, &authority.name()).await.unwrap()
    }
}

fn open(directory: &TempDir, name: &str) -> Authority {
    let cluster: ClusterId = "cl_01JBQR2KXYZ987654321012345".parse().unwrap();
    Authority::open(&directory.path().join(name), &cluster, NOW).unwrap()
}

#[tokio::test]
async fn one_root_at_a_time_takes_anothers_place_and_everybody_counts_meanwhile() {
    let Cluster { store, first, .. } = &Cluster::new().await;
    assert!(matches!(retire(store, first, HostsBehind::Refuse).await, Err(RotationError::NoneRetires)));
    let earlier = first.name();
    rotate(store, first, NOW).await.unwrap();
    assert!(first.has_root_key() && first.name() != earlier);
    for name in [&earlier, &first.name()] {
        assert!(coordinators::counts(store, name).await.unwrap());
    }
    assert!(matches!(rotate(store, first, NOW).await, Err(RotationError::UnderWay { since: NOW })));
}

#[tokio::test]
async fn a_coordinator_that_is_behind_moves_over_and_goes_on_where_it_died() {
    let cluster = Cluster::new().await;
    let Cluster { store, first, second, directory } = &cluster;
    rotate(store, first, NOW).await.unwrap();
    adopt_stored_roots(store, second).await.unwrap();
    assert!(!second.is_current() && cluster.counts(second).await);
    let earlier = second.name();
    // It died with the file written, and nobody is asked again: there is nobody at these addresses.
    cluster.prepared();
    let second = open(directory, "second");
    catch_up(store, &second, NOW).await.unwrap();
    assert!(second.is_current() && cluster.counts(&second).await);
    assert!(coordinators::counts(store, &earlier).await.unwrap());
    // It may be behind on its disk only.
    coordinators::enlist(store, &open(directory, "second"), "127.0.0.1:2", NOW).await.unwrap();
    retire(store, first, HostsBehind::Refuse).await.unwrap();
    assert!(cluster.counts(&second).await && !coordinators::counts(store, &earlier).await.unwrap());
    adopt_stored_roots(store, &second).await.unwrap();
    assert_eq!((second.bundle(), second.pin()), (first.bundle(), first.pin()));
    rotate(store, first, NOW).await.unwrap();
}

#[tokio::test]
async fn who_is_behind_is_cut_off_only_where_that_was_asked_for() {
    let cluster = Cluster::new().await;
    let Cluster { store, first, second, directory } = &cluster;
    rotate(store, first, NOW).await.unwrap();
    let refused = retire(store, first, HostsBehind::Refuse).await;
    assert!(
        matches!(&refused, Err(RotationError::Behind { name }) if name == second.coordinator()),
        "{refused:?}"
    );
    let own = retire(store, second, HostsBehind::Remove).await;
    assert!(matches!(own, Err(RotationError::Behind { .. })), "it removed itself");
    retire(store, first, HostsBehind::Remove).await.unwrap();
    assert!(!cluster.counts(second).await);
    let second = open(directory, "second");
    adopt_stored_roots(store, &second).await.unwrap();
    let refused = coordinators::enlist(store, &second, "127.0.0.1:2", NOW).await;
    assert!(matches!(refused, Err(coordinators::EnlistError::Removed { .. })), "{refused:?}");
}
