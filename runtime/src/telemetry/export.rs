//! Exporters over OTLP: they send batches from their own threads, and drop what their queue cannot hold.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, SpanExporter, WithExportConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::telemetry::collector::{Collector, Watched};
use crate::telemetry::settings::Otlp;

const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// How long the collector may take over one batch.
const EXPORT_LIMIT: Duration = Duration::from_secs(5);

/// The longest time that a span waits for others.
const SPANS_EVERY: Duration = Duration::from_secs(1);

const METRICS_EVERY: Duration = Duration::from_secs(15);

/// Spans beyond these are dropped: a deployment has some twenty.
const SPANS_WAITING_MAX: usize = 2048;

const SPANS_IN_BATCH_MAX: usize = 512;

/// Why nothing can be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("cannot read {}", path.display())]
    Ca { path: PathBuf, source: io::Error },
    #[error("cannot connect to {endpoint}")]
    Endpoint { endpoint: String, source: tonic::transport::Error },
    #[error("cannot create an exporter")]
    Build(#[from] ExporterBuildError),
    #[error("the system provides no random numbers")]
    Random(#[from] getrandom::Error),
}

/// Where spans and metrics of this process go.
pub(crate) struct Exports {
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
}

impl Exports {
    pub(crate) fn to(otlp: &Otlp, service: &'static str) -> Result<Self, ExportError> {
        let channel = channel(otlp)?;
        let collector = Collector::new(&otlp.endpoint);
        let resource = resource(service)?;
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_channel(channel.clone())
            .with_timeout(EXPORT_LIMIT)
            .build()?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(SPANS_WAITING_MAX)
            .with_max_export_batch_size(SPANS_IN_BATCH_MAX)
            .with_scheduled_delay(SPANS_EVERY)
            .build();
        let spans = BatchSpanProcessor::builder(Watched { exporter, collector: collector.clone() })
            .with_batch_config(batches)
            .build();
        let traces = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .with_resource(resource.clone())
            .with_span_processor(spans)
            .build();
        let exporter = MetricExporter::builder()
            .with_tonic()
            .with_channel(channel)
            .with_timeout(EXPORT_LIMIT)
            .build()?;
        let reader =
            PeriodicReader::builder(Watched { exporter, collector }).with_interval(METRICS_EVERY).build();
        let metrics = SdkMeterProvider::builder().with_resource(resource).with_reader(reader).build();
        Ok(Self { traces, metrics })
    }

    pub(crate) fn traces(&self) -> SdkTracerProvider {
        self.traces.clone()
    }

    pub(crate) fn metrics(&self) -> SdkMeterProvider {
        self.metrics.clone()
    }

    /// Sends the remaining data. A failure is not returned: the collector has been logged as unavailable already.
    pub(crate) fn end(&self, limit: Duration) {
        self.traces.shutdown_with_timeout(limit).ok();
        self.metrics.shutdown_with_timeout(limit).ok();
    }
}

/// Connects for the first batch, and again whenever the connection is lost.
fn channel(otlp: &Otlp) -> Result<Channel, ExportError> {
    let Otlp { endpoint, ca } = otlp;
    let unusable = |source| ExportError::Endpoint { endpoint: endpoint.clone(), source };
    let mut dialled = Endpoint::from_shared(endpoint.clone())
        .map_err(unusable)?
        .connect_timeout(CONNECT_LIMIT)
        .timeout(EXPORT_LIMIT);
    if endpoint.starts_with("https://") {
        let tls = match ca {
            Some(path) => {
                let pem =
                    std::fs::read(path).map_err(|source| ExportError::Ca { path: path.clone(), source })?;
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
            }
            None => ClientTlsConfig::new().with_native_roots(),
        };
        dialled = dialled.tls_config(tls).map_err(unusable)?;
    }
    Ok(dialled.connect_lazy())
}

/// The sender. Each process is an instance, because two of them may run on one machine.
fn resource(service: &'static str) -> Result<Resource, ExportError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    let instance = format!("{:032x}", u128::from_be_bytes(random));
    Ok(Resource::builder_empty()
        .with_service_name(service)
        .with_attributes([
            KeyValue::new("service.namespace", "lockstep"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance),
        ])
        .build())
}
