//! Watches the collector: one log line when it stops accepting data, and one when it accepts data again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tracing::{info, warn};

use crate::telemetry::attributes;

/// The collector of spans and metrics.
pub(crate) struct Collector {
    endpoint: String,
    is_away: AtomicBool,
}

impl Collector {
    pub(crate) fn new(endpoint: &str) -> Arc<Self> {
        Arc::new(Self { endpoint: endpoint.to_owned(), is_away: AtomicBool::new(false) })
    }

    fn note(&self, sent: &OTelSdkResult) {
        let collector = &self.endpoint;
        match sent {
            Ok(()) => {
                if self.is_away.swap(false, Ordering::Relaxed) {
                    info!(collector, "the collector accepts traces and metrics again");
                }
            }
            Err(OTelSdkError::AlreadyShutdown) => {}
            Err(OTelSdkError::Timeout(_) | OTelSdkError::InternalFailure(_)) => {
                if let Err(why) = sent
                    && !self.is_away.swap(true, Ordering::Relaxed)
                {
                    warn!(collector, %why, "the collector does not accept traces and metrics: they are dropped until it does");
                }
            }
        }
    }
}

/// An exporter that logs when its collector stops or starts accepting data.
pub(crate) struct Watched<E> {
    pub(crate) exporter: E,
    pub(crate) collector: Arc<Collector>,
}

impl<E> fmt::Debug for Watched<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.into_iter().map(attributes::exported).collect();
        let sent = self.exporter.export(spans).await;
        self.collector.note(&sent);
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Watched<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let sent = self.exporter.export(metrics).await;
        self.collector.note(&sent);
        sent
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
