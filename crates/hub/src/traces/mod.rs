//! The way of events, told to OpenTelemetry's collector (docs/tracing.md); off unless configured.
//!
//! Spans are made by hand and not from what is logged: the log names users, mailboxes and files
//! where something is wrong with them, and a trace never does. Whatever becomes an attribute does so
//! in this folder, and is a number, a word of ours, or a name the operator chose.

mod export;
mod followed;
mod way;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{
    Span as _, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, Span, SpanLimits};
use postbell_engine::Outcome;
use postbell_sinks::collector::{Collector, Endpoint, InvalidEndpoint, InvalidHeader};
use postbell_sinks::webhook::Tls;
use tracing::{info, warn};

use crate::config::TracesConfig;
use crate::lock::locked;
use crate::metrics::{EventIndex, SpanMetrics};
use export::Queue;
use followed::Followed;
pub(crate) use way::WayIn;
use way::{number, seq};

/// Where spans begin; cheap to clone. Without a collector it makes none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traces(Option<Arc<On>>);

/// Traces that are told.
#[derive(Debug)]
struct On {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    followed: Mutex<Followed>,
}

/// What is attempted, for the span of an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempted<'a> {
    /// The subscription's id.
    pub(crate) subscription: &'a str,
    /// `webhook` or `command`.
    pub(crate) sink: &'static str,
    /// The first event's number and name.
    pub(crate) seq: u64,
    pub(crate) event: EventIndex,
    /// How many go together.
    pub(crate) events: usize,
    /// Which attempt it is, from 1.
    pub(crate) attempt: u32,
}

/// An attempt under way; dropped, it was broken off.
#[derive(Debug)]
pub(crate) struct Attempt(Span);

impl Traces {
    /// What `config` asks for: a queue to its collector, or nothing at all.
    pub(crate) fn start(
        config: &TracesConfig,
        tls: &Tls,
        metrics: SpanMetrics,
    ) -> Result<Self, TracesError> {
        if config.endpoint.is_empty() {
            return Ok(Self::default());
        }
        let url = || config.endpoint.clone();
        let endpoint = Endpoint::parse(&config.endpoint)
            .map_err(|source| TracesError::Endpoint { url: url(), source })?;
        let endpoint = match config.headers_file.as_os_str().is_empty() {
            true => endpoint,
            false => with_headers(endpoint, &config.headers_file)?,
        };
        let collector = Collector::new(endpoint, TIMEOUT, tls);
        info!(%collector, share = config.share, "traces are told");
        let share = Sampler::TraceIdRatioBased(config.share);
        // Not what the environment says: the configuration is all there is.
        let resource = Resource::builder_empty()
            .with_service_name(config.service_name.clone())
            .with_attribute(KeyValue::new("service.version", VERSION))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(share)))
            .with_resource(resource)
            // All of them, or the environment's would hold.
            .with_span_limits(SpanLimits { max_links_per_span: LINKS_MAX, ..SpanLimits::default() })
            .with_span_processor(Queue::new(collector, metrics))
            .build();
        let scope = InstrumentationScope::builder("postbell").with_version(VERSION).build();
        let tracer = provider.tracer_with_scope(scope);
        Ok(Self(Some(Arc::new(On { provider, tracer, followed: Mutex::default() }))))
    }

    /// What is handed in over HTTP; it goes on with the publisher's trace, where it names one.
    pub(crate) fn over_http(&self, headers: &HeaderMap) -> WayIn {
        let Some(on) = &self.0 else { return WayIn::default() };
        let parent = publishers_trace(headers);
        on.way_in("publish", SpanKind::Server, parent.as_ref(), None, door("http"))
    }

    /// What is handed in through the publishers' socket.
    pub(crate) fn over_socket(&self) -> WayIn {
        let Some(on) = &self.0 else { return WayIn::default() };
        on.way_in("publish", SpanKind::Server, None, None, door("socket"))
    }

    /// The time, where it is asked for later.
    pub(crate) fn now(&self) -> Option<SystemTime> {
        self.0.as_ref().map(|_| SystemTime::now())
    }

    /// What a source saw, which was normalised from `begun` until now.
    pub(crate) fn of_source(&self, name: &str, begun: Option<SystemTime>) -> WayIn {
        let (Some(on), Some(begun)) = (&self.0, begun) else { return WayIn::default() };
        let source = KeyValue::new("postbell.source", name.to_owned());
        let mut way = on.way_in("source", SpanKind::Internal, None, Some(begun), source);
        way.normalised(begun);
        way
    }

    /// Whether there are any.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// An attempt at deliveries of the events with these ids: a span in the trace of the first that
    /// has one, linked with those of the others; nothing where none of them has.
    pub(crate) fn attempt(
        &self,
        ids: impl Iterator<Item = u128>,
        attempted: Attempted<'_>,
    ) -> Option<Attempt> {
        let on = self.0.as_ref()?;
        let (parent, links) = on.traces_of(ids)?;
        let kind = if attempted.sink == "webhook" { SpanKind::Client } else { SpanKind::Internal };
        let attributes = vec![
            KeyValue::new("postbell.subscription.id", attempted.subscription.to_owned()),
            KeyValue::new("postbell.sink", attempted.sink),
            seq("postbell.seq", attempted.seq),
            KeyValue::new("postbell.event", attempted.event.word()),
            number("postbell.events", attempted.events),
            KeyValue::new("postbell.attempt", i64::from(attempted.attempt)),
        ];
        let mut span = on.span("deliver", kind, Some(&parent), None, attributes);
        for link in links {
            span.add_link(link, Vec::new());
        }
        Some(Attempt(span))
    }

    /// Sends what waits, and ends. Takes a few seconds at most.
    pub(crate) fn shutdown(&self) {
        let Some(on) = &self.0 else { return };
        if let Err(error) = on.provider.shutdown_with_timeout(LAST_SPANS) {
            warn!(%error, "the last spans were not taken");
        }
    }
}

impl Attempt {
    /// Notes how it ended. Why stays here: it may name a host or a file.
    pub(crate) fn ended(mut self, outcome: Outcome) {
        let word = match outcome {
            Outcome::Accepted => "accepted",
            Outcome::Failed { .. } => "failed",
            Outcome::Gone => "gone",
        };
        self.0.set_attribute(KeyValue::new("postbell.outcome", word));
        if outcome != Outcome::Accepted {
            self.0.set_status(Status::error(word));
        }
    }
}

impl On {
    fn way_in(
        self: &Arc<Self>,
        name: &'static str,
        kind: SpanKind,
        parent: Option<&SpanContext>,
        begun: Option<SystemTime>,
        attribute: KeyValue,
    ) -> WayIn {
        WayIn::new(self, self.span(name, kind, parent, begun, vec![attribute]))
    }

    fn span(
        &self,
        name: &'static str,
        kind: SpanKind,
        parent: Option<&SpanContext>,
        begun: Option<SystemTime>,
        attributes: Vec<KeyValue>,
    ) -> Span {
        let mut builder =
            self.tracer.span_builder(name).with_kind(kind).with_attributes(attributes);
        builder.start_time = begun;
        // Not the thread's: what goes on with what is said and never guessed.
        let context = match parent {
            Some(parent) => Context::new().with_remote_span_context(parent.clone()),
            None => Context::new(),
        };
        self.tracer.build_with_context(builder, &context)
    }

    fn follow(&self, ids: impl Iterator<Item = u128>, trace: &SpanContext) {
        let mut followed = locked(&self.followed);
        ids.for_each(|id| followed.add(id, trace));
    }

    /// The first trace there is for these events, and the others, each once.
    fn traces_of(
        &self,
        ids: impl Iterator<Item = u128>,
    ) -> Option<(SpanContext, Vec<SpanContext>)> {
        let followed = locked(&self.followed);
        let mut traces = ids.filter_map(|id| followed.trace(id));
        let first = traces.next()?.clone();
        let mut others: Vec<SpanContext> = Vec::new();
        for trace in traces {
            if others.len() >= LINKS_MAX as usize {
                break;
            }
            if *trace != first && !others.contains(trace) {
                others.push(trace.clone());
            }
        }
        Some((first, others))
    }
}

impl Drop for On {
    fn drop(&mut self) {
        // By itself it would wait for the collector, where nobody may wait.
        drop(self.provider.shutdown_with_timeout(Duration::ZERO));
    }
}

fn door(word: &'static str) -> KeyValue {
    KeyValue::new("postbell.door", word)
}

/// The trace a publisher's request belongs to (W3C Trace Context, `traceparent`; the header that the
/// CloudEvents extension for distributed tracing speaks of). Its `tracestate` is left aside: what
/// stands there is anybody's.
fn publishers_trace(headers: &HeaderMap) -> Option<SpanContext> {
    struct Parent<'a>(&'a str);

    impl Extractor for Parent<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            (key == TRACEPARENT).then_some(self.0)
        }

        fn keys(&self) -> Vec<&str> {
            vec![TRACEPARENT]
        }
    }

    let mut values = headers.get_all(TRACEPARENT).into_iter();
    let (Some(only), None) = (values.next(), values.next()) else { return None };
    let parent = Parent(only.to_str().ok()?);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &parent);
    let trace = context.span().span_context().clone();
    trace.is_valid().then_some(trace)
}

/// The endpoint with the headers of a file that its owner alone may read: whoever has what stands
/// there speaks for the operator to others.
fn with_headers(endpoint: Endpoint, path: &Path) -> Result<Endpoint, TracesError> {
    let io = |source| TracesError::Headers { path: path.to_owned(), source };
    // Looked at before it is opened: a pipe would wait for somebody who writes.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(io(io::Error::other("it is no file")));
    }
    let file = File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(TracesError::Open { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    // One more than it may have tells that it has more.
    file.take(HEADERS_OCTETS_MAX + 1).read_to_string(&mut text).map_err(io)?;
    if text.len() as u64 > HEADERS_OCTETS_MAX {
        return Err(TracesError::TooLong { path: path.to_owned() });
    }
    let fault = |source| TracesError::Header { path: path.to_owned(), source };
    endpoint.with_headers(&text).map_err(fault)
}

/// Why traces can't be told.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// There is no sending there.
    #[error("traces.endpoint: {url:?}")]
    Endpoint {
        /// What stands in the configuration.
        url: String,
        /// What is wrong with it.
        source: InvalidEndpoint,
    },
    /// The file of headers can't be read.
    #[error("traces.headers_file: {path}: can't be read", path = path.display())]
    Headers {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It holds what is no header.
    #[error("traces.headers_file: {path}", path = path.display())]
    Header {
        /// Its path.
        path: PathBuf,
        /// Which line.
        source: InvalidHeader,
    },
    /// It is longer than headers are.
    #[error("traces.headers_file: {path}: is longer than {HEADERS_OCTETS_MAX} octets", path = path.display())]
    TooLong {
        /// Its path.
        path: PathBuf,
    },
    /// Others than its owner may read it.
    #[error("traces.headers_file: {path}: mode {mode:03o} lets others read it (run: chmod go= {path})", path = path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

const TRACEPARENT: &str = "traceparent";

/// How long a collector may take to answer; meanwhile spans wait, and what is too much is lost.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long the hub waits for the last spans to be taken when it stops.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// Other traces that an attempt at a batch is linked with.
const LINKS_MAX: u32 = 64;

/// The longest file of headers that is read.
const HEADERS_OCTETS_MAX: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        values.iter().fold(HeaderMap::new(), |mut headers, value| {
            headers.append(TRACEPARENT, value.parse().unwrap());
            headers
        })
    }

    const FINE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_publishers_trace_is_taken_where_it_is_one() {
        let trace = publishers_trace(&headers(&[FINE])).unwrap();
        assert_eq!(trace.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(trace.span_id().to_string(), "b7ad6b7169203331");
        assert!(trace.is_sampled() && trace.is_remote());
        for wrong in [
            &[][..],
            &[FINE, FINE],
            &["00-00000000000000000000000000000000-b7ad6b7169203331-01"],
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"],
            &["john@example.org"],
        ] {
            assert_eq!(publishers_trace(&headers(wrong)), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_a_publisher_says_beside_its_trace_goes_nowhere() {
        let mut headers = headers(&[FINE]);
        headers.insert("tracestate", "vendor=john".parse().unwrap());
        assert_eq!(publishers_trace(&headers).unwrap().trace_state().header(), "");
    }

    #[test]
    fn a_file_of_headers_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("headers");
        std::fs::write(&path, "Authorization: Bearer hunter2").unwrap();
        let set = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let read = || with_headers(endpoint(), &path);
        for open in [0o644, 0o640, 0o604] {
            set(open);
            let error = read().unwrap_err();
            assert!(matches!(error, TracesError::Open { mode, .. } if mode == open), "{error}");
        }
        set(0o600);
        assert!(read().is_ok());
        std::fs::write(&path, "hunter2").unwrap();
        let error = read().unwrap_err();
        assert!(matches!(error, TracesError::Header { .. }), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    #[test]
    fn a_file_of_headers_is_a_file_and_is_never_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let error = with_headers(endpoint(), &pipe).unwrap_err();
        assert!(crate::sources::chain(&error).ends_with("can't be read: it is no file"), "{error}");
        let path = folder.path().join("headers");
        let written = |octets: u64| {
            let text = format!("X-Key: {}", "k".repeat(usize::try_from(octets).unwrap() - 7));
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            with_headers(endpoint(), &path)
        };
        assert!(written(HEADERS_OCTETS_MAX).is_ok());
        let error = written(HEADERS_OCTETS_MAX + 1).unwrap_err();
        assert!(error.to_string().ends_with("is longer than 16384 octets"), "{error}");
    }

    fn endpoint() -> Endpoint {
        Endpoint::parse("http://127.0.0.1:4318/").unwrap()
    }
}
