//! An SMTP connector that answers what it is told to, call by call, and keeps when and how it was asked.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern_chassis::serve::{ServeSettings, serve};
use postern_client::Settings;
use postern_proto::smtp::v1::smtp_service_server::{SmtpService, SmtpServiceServer};
use postern_proto::smtp::v1::{
    CheckEmailRequest, CheckEmailResponse, SendEmailRequest, SendEmailResponse, SendEmailsRequest,
    SendEmailsResponse, SendLargeEmailRequest, SendLargeEmailResponse,
};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

/// What to answer.
pub(crate) enum Line {
    Error(Status),
    Nothing,
}

/// One call, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) at: Instant,
    pub(crate) metadata: MetadataMap,
    pub(crate) request_id: String,
}

/// The server; it answers well once its lines are said.
#[derive(Clone)]
pub(crate) struct Scripted {
    lines: Arc<Mutex<VecDeque<Line>>>,
    calls: Arc<Mutex<Vec<Call>>>,
    url: String,
    _stop: Arc<DropGuard>,
}

impl Scripted {
    pub(crate) async fn saying(lines: impl IntoIterator<Item = Line>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let scripted = Self {
            lines: Arc::new(Mutex::new(lines.into_iter().collect())),
            calls: Arc::default(),
            url,
            _stop: Arc::new(stop.clone().drop_guard()),
        };
        let service = Service { lines: scripted.lines.clone(), calls: scripted.calls.clone() };
        let routes = Routes::new(SmtpServiceServer::new(service)).prepare();
        let settings = ServeSettings { stop_grace: Duration::ZERO, ..ServeSettings::default() };
        tokio::spawn(async move { serve(listener, &settings, routes, stop).await.unwrap() });
        scripted
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings::to(&self.url)
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }
}

struct Service {
    lines: Arc<Mutex<VecDeque<Line>>>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Service {
    async fn say(&self, metadata: &MetadataMap, request_id: &str) -> Result<(), Status> {
        let call = Call { at: Instant::now(), metadata: metadata.clone(), request_id: request_id.to_owned() };
        self.calls.lock().unwrap().push(call);
        let line = self.lines.lock().unwrap().pop_front();
        match line {
            Some(Line::Error(status)) => Err(status),
            Some(Line::Nothing) => std::future::pending().await,
            None => Ok(()),
        }
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<SendEmailsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl SmtpService for Service {
    type SendEmailsStream = Answers;

    async fn send_email(
        &self,
        request: Request<SendEmailRequest>,
    ) -> Result<Response<SendEmailResponse>, Status> {
        self.say(request.metadata(), &request.get_ref().request_id).await?;
        Ok(Response::new(SendEmailResponse::default()))
    }

    async fn send_emails(
        &self,
        _: Request<Streaming<SendEmailsRequest>>,
    ) -> Result<Response<Answers>, Status> {
        Err(Status::unimplemented("not in this play"))
    }

    async fn send_large_email(
        &self,
        _: Request<Streaming<SendLargeEmailRequest>>,
    ) -> Result<Response<SendLargeEmailResponse>, Status> {
        Err(Status::unimplemented("not in this play"))
    }

    async fn check_email(
        &self,
        request: Request<CheckEmailRequest>,
    ) -> Result<Response<CheckEmailResponse>, Status> {
        self.say(request.metadata(), "").await?;
        Ok(Response::new(CheckEmailResponse::default()))
    }
}
