//! The worker: marks jobs as done, and says so, one line a job. Several may
//! run at the same time; a job is never done twice, and none is left halfway,
//! because each batch is one statement.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::database;
use crate::settings::Settings;

const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

pub async fn work(settings: Settings, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let pool = database::pool(settings.database.clone());
    println!(
        "working version={} commit={} database={}/{}",
        settings.version,
        settings.commit,
        settings.database.get_host(),
        settings.database.get_database().unwrap_or_default(),
    );
    loop {
        let pause = match database::do_jobs(&pool, &settings.version).await {
            Ok(jobs) => {
                for job in &jobs {
                    println!(
                        "job {} done kind={} note={}",
                        job.id,
                        job.kind,
                        job.note_id.unwrap_or_default()
                    );
                }
                if jobs.is_empty() { PAUSE } else { Duration::ZERO }
            }
            Err(error) => {
                println!("jobs could not be done: {error}");
                PAUSE_AFTER_FAILURE
            }
        };
        if timeout(pause, stop.wait_for(|stop| *stop)).await.is_ok() {
            break;
        }
    }
    pool.close().await;
    println!("ended");
    Ok(())
}
