//! The calls that a program takes: a layer around all it serves that counts them by method and code, for the methods that
//! the contract knows. A call costs a look-up and a few atomic additions, and allocates nothing.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tokio::time::Instant;
use tonic::Code;
use tower::Service;

use super::{Counter, Gauge, Histogram, Page};

/// The gRPC codes by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
/// The name of all that the contract does not know.
const OTHER: &str = "other";
/// `google.protobuf.MethodOptions.IdempotencyLevel.NO_SIDE_EFFECTS`.
const NO_SIDE_EFFECTS: i32 = 1;

/// The calls of each program in this process: several only where a program runs others within it.
static PROGRAMS: Mutex<Vec<(&'static str, Arc<Calls>)>> = Mutex::new(Vec::new());

/// The calls of a program.
#[derive(Debug)]
struct Calls {
    places: HashMap<String, usize>,
    /// The last is for all that the contract does not know.
    methods: Vec<Method>,
}

/// The calls of a method.
#[derive(Debug)]
struct Method {
    service: String,
    name: String,
    is_change: bool,
    has_streams: bool,
    codes: [Counter; CODES.len()],
    in_flight: Gauge,
    seconds: Histogram,
}

/// A call that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// The full name of its service.
    pub service: &'a str,
    /// The name of its method.
    pub method: &'a str,
    /// Whether it is one that the contract does not know.
    pub is_other: bool,
    /// Whether it may have changed something.
    pub is_change: bool,
    /// Whether it takes or gives a stream.
    pub has_streams: bool,
    /// How it ended.
    pub code: Code,
    /// From its head to the end of its answer.
    pub took: Duration,
}

impl Calls {
    fn of(program: &'static str) -> Arc<Self> {
        let mut programs = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, calls)) = programs.iter().find(|(known, _)| *known == program) {
            return calls.clone();
        }
        let calls = Arc::new(Self::new());
        programs.push((program, calls.clone()));
        calls
    }

    fn new() -> Self {
        // The set is this program's own, made with it.
        let files = FileDescriptorSet::decode(postern_proto::FILE_DESCRIPTOR_SET).unwrap_or_default().file;
        let mut methods = Vec::new();
        for file in &files {
            for service in &file.service {
                let full = format!("{}.{}", file.package(), service.name());
                methods.extend(service.method.iter().map(|method| {
                    let level = method.options.as_ref().and_then(|options| options.idempotency_level);
                    let is_change = level != Some(NO_SIDE_EFFECTS);
                    let has_streams = method.client_streaming() || method.server_streaming();
                    Method::new(&full, method.name(), is_change, has_streams)
                }));
            }
        }
        let path = |method: &Method| format!("/{}/{}", method.service, method.name);
        let places = methods.iter().enumerate().map(|(place, method)| (path(method), place)).collect();
        methods.push(Method::new(OTHER, OTHER, true, true));
        Self { places, methods }
    }

    fn place(&self, path: &str) -> usize {
        self.places.get(path).copied().unwrap_or(self.methods.len() - 1)
    }
}

impl Method {
    fn new(service: &str, name: &str, is_change: bool, has_streams: bool) -> Self {
        Self {
            service: service.to_owned(),
            name: name.to_owned(),
            is_change,
            has_streams,
            codes: [const { Counter::new() }; CODES.len()],
            in_flight: Gauge::new(),
            seconds: Histogram::new(),
        }
    }
}

/// The metrics of calls.
pub(super) fn tell(page: &mut Page<'_>) -> fmt::Result {
    let programs = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let methods = || {
        programs.iter().flat_map(|(program, calls)| {
            let called = calls.methods.iter().filter(|method| is_called(method));
            called.map(|method| (labels(program, method), method))
        })
    };
    let codes = methods().flat_map(|([program, service, name], method)| {
        let seen = CODES.iter().zip(&method.codes).filter(|(_, counter)| counter.get() > 0);
        seen.map(move |(code, counter)| ([program, service, name, ("code", *code)], counter.get()))
    });
    page.counters("postern_calls", "Calls that have ended, by method and gRPC code", codes)?;
    page.gauges(
        "postern_calls_in_flight",
        "Calls that have begun and not ended, open streams included",
        methods().map(|(labels, method)| (labels, method.in_flight.get())),
    )?;
    page.histograms(
        "postern_call_duration_seconds",
        "How long calls took, from their head to the end of their answer; streams for as long as they lasted",
        methods().map(|(labels, method)| (labels, &method.seconds)),
    )
}

fn is_called(method: &Method) -> bool {
    method.in_flight.get() != 0 || method.codes.iter().any(|counter| counter.get() > 0)
}

fn labels<'a>(program: &'static str, method: &'a Method) -> [(&'static str, &'a str); 3] {
    [("program", program), ("service", &method.service), ("method", &method.name)]
}

/// A service whose calls are counted.
#[derive(Debug, Clone)]
pub struct Counted<S> {
    inner: S,
    calls: Arc<Calls>,
    observe: fn(Ended<'_>),
}

impl<S> Counted<S> {
    /// A service as the calls of a program.
    pub fn new(inner: S, program: &'static str) -> Self {
        Self { inner, calls: Calls::of(program), observe: |_| {} }
    }

    /// The same, which also tells each call that has ended.
    #[must_use]
    pub fn telling(self, observe: fn(Ended<'_>)) -> Self {
        Self { observe, ..self }
    }
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<CountedBody<R>>;
    type Error = S::Error;
    type Future = CountedCall<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let open = Open::new(self.calls.clone(), request.uri().path(), self.observe);
        CountedCall { inner: self.inner.call(request), open: Some(open) }
    }
}

/// A call that has begun. Dropped, it was cancelled.
#[derive(Debug)]
struct Open {
    calls: Arc<Calls>,
    place: usize,
    begun: Instant,
    code: Code,
    observe: fn(Ended<'_>),
}

impl Open {
    fn new(calls: Arc<Calls>, path: &str, observe: fn(Ended<'_>)) -> Self {
        let place = calls.place(path);
        let open = Self { calls, place, begun: Instant::now(), code: Code::Cancelled, observe };
        if let Some(method) = open.method() {
            method.in_flight.add(1);
        }
        open
    }

    fn method(&self) -> Option<&Method> {
        self.calls.methods.get(self.place)
    }

    /// Ends it by what its trailers, or the head of an answer that has no more, say.
    fn end(mut self, said: Option<Code>) {
        self.code = said.unwrap_or(Code::Unknown);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(method) = self.method() else { return };
        let took = self.begun.elapsed();
        method.in_flight.add(-1);
        method.seconds.record(took);
        if let Some(counter) = usize::try_from(self.code as i32).ok().and_then(|code| method.codes.get(code))
        {
            counter.inc();
        }
        let Method { service, name, is_change, has_streams, .. } = method;
        let (is_change, has_streams) = (*is_change, *has_streams);
        let is_other = self.place + 1 == self.calls.methods.len();
        let (method, code) = (name, self.code);
        (self.observe)(Ended { service, method, is_other, is_change, has_streams, code, took });
    }
}

/// The code in trailers. `None`: they hold none.
fn code_in(headers: &HeaderMap) -> Option<Code> {
    Some(Code::from_bytes(headers.get("grpc-status")?.as_bytes()))
}

pin_project! {
    /// A call that is counted.
    pub struct CountedCall<F> {
        #[pin]
        inner: F,
        open: Option<Open>,
    }
}

impl<F, R, E> Future for CountedCall<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<CountedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answered = ready!(this.inner.poll(cx));
        let mut open = this.open.take();
        Poll::Ready(answered.map(|response| {
            if let Some(code) = code_in(response.headers())
                && let Some(open) = open.take()
            {
                open.end(Some(code));
            }
            response.map(|inner| CountedBody { inner, open })
        }))
    }
}

pin_project! {
    /// The body of an answer whose call is counted.
    pub struct CountedBody<R> {
        #[pin]
        inner: R,
        open: Option<Open>,
    }
}

impl<R: Body> Body for CountedBody<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<R::Data>, R::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        let ended = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().map(code_in),
            Some(Err(_)) | None => Some(None),
        };
        if let Some(said) = ended
            && let Some(open) = this.open.take()
        {
            open.end(said);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
