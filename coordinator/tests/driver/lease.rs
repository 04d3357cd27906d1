//! A driver keeps its lock, whatever else takes its time.

use std::sync::Arc;
use std::time::Duration;

use lockstep_coordinator::drive::lock::LEASE_LIVES;
use lockstep_coordinator::ports::secrets::FixedSecrets;
use lockstep_coordinator::record::history;
use lockstep_core::run::journal::{Event, Verdict};

use crate::fixture::Fixture;

#[tokio::test(start_paused = true)]
async fn a_driver_keeps_its_lock_while_it_loads() {
    let mut fixture = Fixture::new().await;
    // Longer than a lease lives.
    let redactor_takes = Duration::from_millis(LEASE_LIVES.0 * 3);
    let slow = FixedSecrets { redactor_takes, ..FixedSecrets::default() };
    fixture.parts.secrets = Arc::new(slow);
    let _drivers = fixture.drivers();
    let ended = fixture.deploy("notes:1.0.0").await;
    fixture.check_ended(&ended, Verdict::Succeeded).await;
    let entries = history::journal(&*fixture.store, &ended.id).await.unwrap();
    let taken = entries.iter().filter(|entry| matches!(entry.event, Event::LockTaken { .. })).count();
    assert_eq!(taken, 1, "the lock was lost while the driver loaded");
    fixture.shut_down().await;
}
