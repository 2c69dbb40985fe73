//! A small connector on a runtime of its own, so that it can be killed with its sockets. It answers as it is told.

mod gathering;
mod moods;
pub(crate) mod watching;
mod words;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use http::{Request, Response};
use postern_chassis::fault::Fault;
use postern_chassis::opened;
use postern_chassis::serve::{self, ServeSettings};
use postern_proto::connector::v1::connector_service_server::{ConnectorService, ConnectorServiceServer};
use postern_proto::connector::v1::*;
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::{Grpc, StreamingService, UnaryService};
use tonic::{Code, Request as Asked, Response as Answered, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::Service;

pub(crate) use words::{Said, Say};

use crate::ports::Port;

/// How a fake behaves, and what it saw.
#[derive(Default)]
pub(crate) struct State {
    kind: String,
    needs_grant: bool,
    /// How long a grant lasts. `None`: for good.
    pub(crate) grant_life: Mutex<Option<Duration>>,
    /// What RefreshCredentials is refused with.
    pub(crate) refresh_refusal: Mutex<Option<Fault>>,
    /// What CheckConnection is refused with.
    pub(crate) check_refusal: Mutex<Option<Fault>>,
    /// What ValidateConnection is refused with.
    pub(crate) validate_refusal: Mutex<Option<Fault>>,
    /// The grants given so far: the n-th is `grant-n`.
    pub(crate) refreshes: AtomicU64,
    /// Access tokens of grants up to this one are refused.
    pub(crate) spent: AtomicU64,
    /// Calls of the echo service that were begun.
    pub(crate) begun: AtomicUsize,
    /// Checks of connections that were begun.
    pub(crate) checks: AtomicUsize,
    /// Calls of the echo service that were dropped before they had an answer.
    pub(crate) dropped: AtomicUsize,
    /// Client streams of the echo service that were read to their end and hang.
    pub(crate) heard_out: AtomicUsize,
    /// Whether it takes everything and answers nothing, not even what it is.
    pub(crate) is_deaf: AtomicBool,
    /// Whether its provider is out of reach.
    pub(crate) is_cut_off: AtomicBool,
    /// What its triggers watch.
    pub(crate) watching: watching::Watching,
    port: AtomicU64,
}

/// A running fake.
pub(crate) struct Fake {
    pub(crate) state: Arc<State>,
    port: Port,
    serving: ServeSettings,
    runtime: Option<tokio::runtime::Runtime>,
    stop: CancellationToken,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Fake {
    /// A connector of a kind whose connections need no grant.
    pub(crate) fn of(kind: &str) -> Self {
        Self::start(State { kind: kind.into(), ..Default::default() }, ServeSettings::default())
    }

    /// A connector of a kind that is served in another way.
    pub(crate) fn served(kind: &str, serving: ServeSettings) -> Self {
        Self::start(State { kind: kind.into(), ..Default::default() }, serving)
    }

    /// A connector of a kind whose connections need a grant.
    pub(crate) fn granting(kind: &str) -> Self {
        Self::start(
            State { kind: kind.into(), needs_grant: true, ..Default::default() },
            ServeSettings::default(),
        )
    }

    fn start(state: State, serving: ServeSettings) -> Self {
        let (state, port) = (Arc::new(state), Port::keep());
        state.port.store(port.address.port().into(), Ordering::Relaxed);
        let mut fake = Self { state, port, serving, runtime: None, stop: CancellationToken::new() };
        fake.come_back();
        fake
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address
    }

    /// Ends it at once, with every socket it has.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Starts it again where it was.
    pub(crate) fn come_back(&mut self) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        // The port is free as soon as the killed runtime has dropped its sockets, which it does apart.
        let listener = (0..2_000).find_map(|_| match std::net::TcpListener::bind(self.address()) {
            Ok(listener) => Some(listener),
            Err(_) => {
                std::thread::yield_now();
                std::sync::mpsc::channel::<()>().1.recv_timeout(Duration::from_millis(5)).ok();
                None
            }
        });
        let listener = listener.expect("the fake's port is free again");
        listener.set_nonblocking(true).unwrap();
        let all = All {
            connector: ConnectorServiceServer::new(Connector(self.state.clone())),
            echo: Echo(self.state.clone()),
        };
        let (serving, stop) = (self.serving.clone(), CancellationToken::new());
        self.stop = stop.clone();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            serve::serve(listener, &serving, all, stop).await
        });
        self.runtime = Some(runtime);
    }
}

/// What the fake serves: the connector's service, and the echo under every other path.
#[derive(Clone)]
struct All {
    connector: ConnectorServiceServer<Connector>,
    echo: Echo,
}

impl Service<Request<Body>> for All {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path().starts_with("/postern.connector.v1.ConnectorService/") {
            return Box::pin(self.connector.call(request));
        }
        let echo = self.echo.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<Said, Say>::default())
                .max_decoding_message_size(usize::MAX)
                .max_encoding_message_size(usize::MAX);
            let path = request.uri().path();
            Ok(if path.ends_with("/Stream") {
                grpc.streaming(echo, request).await
            } else if path.ends_with("/GetAttachment") {
                grpc.server_streaming(echo, request).await
            } else if path.ends_with("/SendLargeEmail") {
                grpc.client_streaming(echo, request).await
            } else {
                moods::without_end(grpc.unary(echo, request).await)
            })
        })
    }
}

/// The echo service.
#[derive(Clone)]
struct Echo(Arc<State>);

/// Counts a call that is dropped before it has an answer.
struct Begun(Arc<State>, bool);

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.1 {
            self.0.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Echo {
    fn said(&self, metadata: &tonic::metadata::MetadataMap, say: Say) -> Said {
        Said {
            text: say.text,
            port: self.0.port.load(Ordering::Relaxed) as u32,
            metadata: metadata
                .clone()
                .into_headers()
                .iter()
                .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
                .collect(),
            opened: opened::decode(metadata).map(|it| prost::Message::encode_to_vec(&it)).unwrap_or_default(),
            ballast: say.ballast,
        }
    }
}

impl UnaryService<Say> for Echo {
    type Response = Said;
    type Future = Pin<Box<dyn Future<Output = Result<Answered<Said>, Status>> + Send>>;

    fn call(&mut self, request: Asked<Say>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let state = echo.0.clone();
            let number_of_call = state.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let mut begun = Begun(state.clone(), false);
            let (metadata, _, say) = request.into_parts();
            let grant = opened::decode(&metadata)?.grant;
            let number: u64 =
                String::from_utf8_lossy(&grant).trim_start_matches("grant-").parse().unwrap_or(0);
            if state.needs_grant && number <= state.spent.load(Ordering::SeqCst) {
                begun.1 = true;
                return Err(Fault::new(Code::FailedPrecondition, "CREDENTIALS_REFUSED", "spent")
                    .refresh()
                    .into());
            }
            state.heed(&say.text, number_of_call).await;
            begun.1 = true;
            if state.is_cut_off.load(Ordering::SeqCst) {
                return Err(Fault::new(Code::Unavailable, "PROVIDER_UNAVAILABLE", "cut off").into());
            }
            if say.text == "refuse" {
                let fault =
                    Fault::new(Code::FailedPrecondition, "MESSAGE_REFUSED", "no").with("smtp.code", "550");
                let mut status = Status::from(fault.refresh());
                status.metadata_mut().insert("postern-inner", "1".parse().unwrap());
                status.metadata_mut().insert("outer", "1".parse().unwrap());
                return Err(status);
            }
            let hangs_at_end = state.is_here(&say.text, "hang-at-end ");
            let mut answer = Answered::new(echo.said(&metadata, say));
            if hangs_at_end {
                answer.metadata_mut().insert(moods::WITHOUT_END, "1".parse().unwrap());
            }
            answer.metadata_mut().insert("postern-inner", "1".parse().unwrap());
            answer.metadata_mut().insert("outer", "1".parse().unwrap());
            Ok(answer)
        })
    }
}

impl StreamingService<Say> for Echo {
    type Response = Said;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Said, Status>> + Send>>;
    type Future = Pin<Box<dyn Future<Output = Result<Answered<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: Asked<Streaming<Say>>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let (metadata, _, says) = request.into_parts();
            let answers = says.map(move |say| Ok(echo.said(&metadata, say?)));
            Ok(Answered::new(Box::pin(answers) as Self::ResponseStream))
        })
    }
}

/// The connector's service.
#[derive(Clone)]
struct Connector(Arc<State>);

fn unless<T>(refusal: &Mutex<Option<Fault>>, answer: T) -> Result<Answered<T>, Status> {
    match refusal.lock().unwrap().clone() {
        Some(fault) => Err(fault.into()),
        None => Ok(Answered::new(answer)),
    }
}

#[tonic::async_trait]
impl ConnectorService for Connector {
    async fn describe(&self, _: Asked<DescribeRequest>) -> Result<Answered<DescribeResponse>, Status> {
        self.0.heed("", 0).await;
        Ok(Answered::new(DescribeResponse {
            kind: self.0.kind.clone(),
            services: vec![
                "test.echo.v1.EchoService".into(),
                "postern.outlook.v1.MailService".into(),
                "postern.smtp.v1.SmtpService".into(),
                "postern.connection.v1.ConnectionService".into(),
            ],
            trigger_kinds: vec!["new_email".into()],
            ..Default::default()
        }))
    }

    async fn validate_connection(
        &self,
        request: Asked<ValidateConnectionRequest>,
    ) -> Result<Answered<ValidateConnectionResponse>, Status> {
        opened::decode(request.metadata())?;
        unless(
            &self.0.validate_refusal,
            ValidateConnectionResponse { needs_grant: self.0.needs_grant, needs_sign_in: false },
        )
    }

    async fn check_connection(
        &self,
        request: Asked<CheckConnectionRequest>,
    ) -> Result<Answered<CheckConnectionResponse>, Status> {
        opened::decode(request.metadata())?;
        self.0.checks.fetch_add(1, Ordering::SeqCst);
        self.0.heed("", 0).await;
        let said = CheckConnectionResponse { account: "billing".into(), details: vec!["hello".into()] };
        unless(&self.0.check_refusal, said)
    }

    async fn refresh_credentials(
        &self,
        request: Asked<RefreshCredentialsRequest>,
    ) -> Result<Answered<RefreshCredentialsResponse>, Status> {
        opened::decode(request.metadata())?;
        let number = self.0.refreshes.fetch_add(1, Ordering::SeqCst) + 1;
        // Long enough for all who ask at the same time to have asked.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let life = *self.0.grant_life.lock().unwrap();
        let grant = RefreshCredentialsResponse {
            grant: format!("grant-{number}").into(),
            expire_time: life.map(|life| (SystemTime::now() + life).into()),
        };
        unless(&self.0.refresh_refusal, grant)
    }

    async fn start_sign_in(
        &self,
        _: Asked<StartSignInRequest>,
    ) -> Result<Answered<StartSignInResponse>, Status> {
        Err(Status::unimplemented("not served"))
    }

    async fn complete_sign_in(
        &self,
        _: Asked<CompleteSignInRequest>,
    ) -> Result<Answered<CompleteSignInResponse>, Status> {
        Err(Status::unimplemented("not served"))
    }

    async fn send_email(&self, _: Asked<SendEmailRequest>) -> Result<Answered<SendEmailResponse>, Status> {
        Err(Status::unimplemented("not served"))
    }

    async fn check_trigger(
        &self,
        request: Asked<CheckTriggerRequest>,
    ) -> Result<Answered<CheckTriggerResponse>, Status> {
        let watch_key = watching::Watching::key(request.get_ref().trigger.as_ref());
        Ok(Answered::new(CheckTriggerResponse { watch_key }))
    }

    async fn poll(&self, request: Asked<PollRequest>) -> Result<Answered<PollResponse>, Status> {
        opened::decode(request.metadata())?;
        self.0.watching.poll(request.into_inner()).await.map(Answered::new)
    }

    async fn renew_notification(
        &self,
        _: Asked<RenewNotificationRequest>,
    ) -> Result<Answered<RenewNotificationResponse>, Status> {
        Err(Status::unimplemented("not tried here"))
    }

    async fn end_notification(
        &self,
        _: Asked<EndNotificationRequest>,
    ) -> Result<Answered<EndNotificationResponse>, Status> {
        Err(Status::unimplemented("not tried here"))
    }

    async fn read_notification(
        &self,
        _: Asked<ReadNotificationRequest>,
    ) -> Result<Answered<ReadNotificationResponse>, Status> {
        Err(Status::unimplemented("not tried here"))
    }
}
