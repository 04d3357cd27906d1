//! A whole deployment with the record in an etcd of three members, beside the same with SQLite.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use crate::case::Case;
use crate::report::{Limit, Measured};
use crate::statistics::median;
use lockstep_tests::bed::server::etcd::{Etcd, Members};
use lockstep_tests::bed::stage::{Record, Setting, Stage};

const PAIRS: usize = 11;

struct Side {
    stage: Stage,
    images: [String; 2],
}

impl Side {
    fn start(directory: &Path, application: &str, record: Record<'_>) -> Result<Self> {
        let setting = Setting { application: application.to_owned(), bake: "0s", drain: "0s" };
        let mut stage = Stage::start_on(directory, &setting, record)?;
        let images = [stage.image("1", 2, &[])?, stage.image("2", 2, &[])?];
        let side = Self { stage, images };
        // Both slots have run once: then each deployment has the same to do.
        side.deploy(0)?;
        side.deploy(1)?;
        Ok(side)
    }

    /// Seconds, from the command to its end.
    fn deploy(&self, number: usize) -> Result<f64> {
        let begun = Instant::now();
        self.stage.must(&["deploy", "production", "--image", &self.images[number % 2]])?;
        Ok(begun.elapsed().as_secs_f64())
    }
}

pub(super) fn measure(directory: &Path, say: &mut dyn FnMut(&str)) -> Result<Measured> {
    say("· etcd_overhead: two stages that differ in their record alone");
    let etcd = Etcd::start(&directory.join("etcd"), Members::Three)?;
    let ours = Side::start(&directory.join("on-etcd"), "bench-etcd", Record::Etcd(&etcd))?;
    let peer = Side::start(&directory.join("on-sqlite"), "bench-sqlite", Record::Sqlite)?;
    let (mut on_etcd, mut on_sqlite) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        // Whoever comes first changes from pair to pair.
        if pair % 2 == 0 {
            on_etcd.push(ours.deploy(pair)?);
            on_sqlite.push(peer.deploy(pair)?);
        } else {
            on_sqlite.push(peer.deploy(pair)?);
            on_etcd.push(ours.deploy(pair)?);
        }
        say(&format!(
            "  {:>2} of {PAIRS}: {:.3} s, with SQLite {:.3} s",
            pair + 1,
            on_etcd[pair],
            on_sqlite[pair]
        ));
    }
    Ok(Measured {
        case: Case::EtcdOverhead,
        unit: "seconds",
        ours: median(&on_etcd),
        peer: median(&on_sqlite),
        peer_name: "with SQLite",
        interval: None,
        limit: Limit::RatioAtMost(1.1),
    })
}
