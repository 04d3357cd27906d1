//! A collector: it keeps what it is sent, span by span and metric by metric, and all the bytes.

use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::Result;
use lockstep_tests::bed::server::certificates::Certificates;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// Attributes as a test compares them: sorted `name=value`.
pub(crate) type Attributes = Vec<String>;

#[derive(Debug, Clone)]
pub(crate) struct SeenSpan {
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) trace: Vec<u8>,
    pub(crate) id: Vec<u8>,
    pub(crate) parent: Vec<u8>,
    pub(crate) is_error: bool,
    pub(crate) attributes: Attributes,
}

/// One series of a metric.
#[derive(Debug, Clone)]
pub(crate) struct SeenPoint {
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) attributes: Attributes,
    /// Of a histogram: how often something was measured.
    pub(crate) count: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) spans: Vec<SeenSpan>,
    /// Of each series what was sent last stands last.
    pub(crate) points: Vec<SeenPoint>,
    pub(crate) bytes: Vec<u8>,
}

/// It listens until it is dropped.
pub(crate) struct Collector {
    seen: Arc<Mutex<Seen>>,
    _runtime: Runtime,
}

impl Collector {
    /// In the clear, or over TLS with these certificates.
    pub(crate) fn listen(address: SocketAddr, tls: Option<&Certificates>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(address))?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut server = Server::builder();
        if let Some(Certificates { certificate, key, .. }) = tls {
            let identity = Identity::from_pem(fs::read(certificate)?, fs::read(key)?);
            server = server.tls_config(ServerTlsConfig::new().identity(identity))?;
        }
        let router = server
            .add_service(TraceServiceServer::new(Keeper(Arc::clone(&seen))))
            .add_service(MetricsServiceServer::new(Keeper(Arc::clone(&seen))));
        runtime.spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        Ok(Self { seen, _runtime: runtime })
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("nobody panics while it is held")
    }
}

struct Keeper(Arc<Mutex<Seen>>);

impl Keeper {
    /// Keeps the bytes of what was sent; what is in it goes where the rest is.
    fn keep<T: Message>(&self, request: Request<T>) -> (T, MutexGuard<'_, Seen>) {
        let request = request.into_inner();
        let mut seen = self.0.lock().expect("nobody panics while it is held");
        seen.bytes.extend(request.encode_to_vec());
        (request, seen)
    }
}

#[tonic::async_trait]
impl TraceService for Keeper {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (request, mut seen) = self.keep(request);
        for of_resource in request.resource_spans {
            let service = service(of_resource.resource.as_ref());
            let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            seen.spans.extend(spans.map(|span| seen_span(&service, span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Keeper {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let (request, mut seen) = self.keep(request);
        for of_resource in request.resource_metrics {
            let service = service(of_resource.resource.as_ref());
            for metric in of_resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                for (attributes, count) in counts(metric.data.as_ref()) {
                    let (name, unit) = (metric.name.clone(), metric.unit.clone());
                    seen.points.push(SeenPoint { service: service.clone(), name, unit, attributes, count });
                }
            }
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn service(resource: Option<&Resource>) -> String {
    let attributes = resource.map(|resource| words(&resource.attributes)).unwrap_or_default();
    let name = attributes.iter().find_map(|word| word.strip_prefix("service.name="));
    name.unwrap_or("nobody").to_owned()
}

fn seen_span(service: &str, span: Span) -> SeenSpan {
    SeenSpan {
        service: service.to_owned(),
        name: span.name,
        trace: span.trace_id,
        id: span.span_id,
        parent: span.parent_span_id,
        is_error: span.status.is_some_and(|status| status.code == StatusCode::Error as i32),
        attributes: words(&span.attributes),
    }
}

fn counts(data: Option<&Data>) -> Vec<(Attributes, u64)> {
    let number = |point: &opentelemetry_proto::tonic::metrics::v1::NumberDataPoint| {
        let value = match point.value {
            Some(number_data_point::Value::AsInt(value)) => u64::try_from(value).unwrap_or_default(),
            Some(number_data_point::Value::AsDouble(_)) | None => 0,
        };
        (words(&point.attributes), value)
    };
    match data {
        Some(Data::Sum(sum)) => sum.data_points.iter().map(number).collect(),
        Some(Data::Gauge(gauge)) => gauge.data_points.iter().map(number).collect(),
        Some(Data::Histogram(histogram)) => {
            histogram.data_points.iter().map(|point| (words(&point.attributes), point.count)).collect()
        }
        Some(Data::ExponentialHistogram(_) | Data::Summary(_)) | None => Vec::new(),
    }
}

fn words(attributes: &[KeyValue]) -> Attributes {
    let mut words: Vec<String> = attributes
        .iter()
        .map(|attribute| {
            let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
            let value = match value {
                Some(any_value::Value::StringValue(text)) => text.clone(),
                other => format!("{other:?}"),
            };
            format!("{}={value}", attribute.key)
        })
        .collect();
    words.sort();
    words
}
