//! Spans on their way to the collector: bounded while they wait, and lost where it takes none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor,
};
use postbell_sinks::collector::Collector;
use prost::Message as _;
use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::metrics::SpanMetrics;

/// What spans go through: whoever ends one never waits.
#[derive(Debug)]
pub(super) struct Queue {
    batches: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    metrics: SpanMetrics,
}

impl Queue {
    /// A queue to `collector`, to which the runtime of the caller sends.
    pub(super) fn new(collector: Collector, metrics: SpanMetrics) -> Self {
        let waiting = Arc::new(AtomicUsize::new(0));
        let exporter = Exporter {
            collector: Arc::new(collector),
            resource: ResourceAttributesWithSchema::default(),
            runtime: Handle::current(),
            waiting: Arc::clone(&waiting),
            metrics: metrics.clone(),
            is_down: AtomicBool::new(false),
        };
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(WAITING_MAX)
            .with_max_export_batch_size(BATCH_SPANS)
            .with_scheduled_delay(PAUSE)
            .build();
        let batches = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        Self { batches, waiting, metrics }
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    // The queue behind would drop what is too much as well, and tell nobody until the end.
    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.metrics.lost.increment(1);
            return;
        }
        self.batches.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// What sends a batch, on a thread of its own. One that is not taken is not sent again: what comes
/// later is of more use, and would be lost instead.
#[derive(Debug)]
struct Exporter {
    collector: Arc<Collector>,
    resource: ResourceAttributesWithSchema,
    runtime: Handle,
    waiting: Arc<AtomicUsize>,
    metrics: SpanMetrics,
    is_down: AtomicBool,
}

impl Exporter {
    /// Says once that the collector takes nothing, and once that it does again.
    fn note(&self, why: Option<&str>) {
        let was_down = self.is_down.swap(why.is_some(), Ordering::Relaxed);
        match why {
            Some(why) if !was_down => {
                warn!(collector = %self.collector, why, "spans are not taken and are lost; the next ones are only counted");
            }
            None if was_down => info!(collector = %self.collector, "spans are taken again"),
            Some(_) | None => {}
        }
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let collector = Arc::clone(&self.collector);
        let posted = self.runtime.spawn(async move { collector.post(body.into()).await });
        let why = match posted.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            // A runtime that ends takes along what it was doing.
            Err(_) => Some("the hub has stopped".to_owned()),
        };
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        self.note(why.as_deref());
        let counter = if why.is_some() { &self.metrics.lost } else { &self.metrics.told };
        counter.increment(u64::try_from(count).unwrap_or(u64::MAX));
        why.map_or(Ok(()), |why| Err(OTelSdkError::InternalFailure(why)))
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }
}

/// Spans that wait or are being sent: some 2 MiB, and of a busy hub a few seconds' worth.
pub(super) const WAITING_MAX: usize = 4_096;

/// Spans sent at once: some 150 KiB.
const BATCH_SPANS: usize = 512;

/// How long a span waits for company at most.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use postbell_sinks::webhook::Tls;

    use super::*;
    use crate::config::TracesConfig;
    use crate::metrics::{Figures, Metrics};
    use crate::traces::Traces;

    /// Whoever ends a span doesn't wait, however many there are: what is too much is lost at once.
    #[tokio::test]
    async fn a_collector_that_never_answers_holds_nobody_up_and_what_waits_is_bounded() {
        const WAYS: usize = 3_000;
        // The system takes the connection, and nobody ever reads.
        let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}/v1/traces", hanging.local_addr().unwrap());
        let metrics = Metrics::new();
        let config = TracesConfig { endpoint, ..TracesConfig::default() };
        let traces = Traces::start(&config, &Tls::new().unwrap(), metrics.spans()).unwrap();
        for number in 0..WAYS {
            let mut way = traces.over_socket();
            way.admitting();
            way.journalling([number as u128].into_iter(), 0);
        }
        let text = metrics.render(&Figures::default());
        let counted = |name: &str| -> usize {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap().parse().unwrap()
        };
        // The way and two stages each.
        assert!(counted("postbell_spans_lost_total") >= WAYS * 3 - WAITING_MAX, "{text}");
        assert_eq!(counted("postbell_spans_told_total"), 0);
    }

    #[tokio::test]
    async fn without_an_endpoint_there_is_nothing_that_could_tell() {
        let traces =
            Traces::start(&TracesConfig::default(), &Tls::new().unwrap(), Metrics::new().spans())
                .unwrap();
        assert!(!traces.is_on() && traces.now().is_none());
        let way = traces.over_socket();
        assert_eq!(format!("{way:?}"), "WayIn(None)");
    }
}
