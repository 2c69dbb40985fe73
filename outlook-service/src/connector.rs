//! `postern.connector.v1.ConnectorService`: decode, call, encode.

use std::sync::Arc;

use postern_proto::connection::v1::SignInKind;
use postern_proto::connector::v1::connector_service_server::ConnectorService;
use postern_proto::connector::v1::{
    CheckConnectionRequest, CheckConnectionResponse, CheckTriggerRequest, CheckTriggerResponse,
    CompleteSignInRequest, CompleteSignInResponse, DescribeRequest, DescribeResponse, EndNotificationRequest,
    EndNotificationResponse, PollRequest, PollResponse, ReadNotificationRequest, ReadNotificationResponse,
    RefreshCredentialsRequest, RefreshCredentialsResponse, RenewNotificationRequest,
    RenewNotificationResponse, SendEmailRequest, SendEmailResponse, StartSignInRequest, StartSignInResponse,
    ValidateConnectionRequest, ValidateConnectionResponse,
};
use postern_proto::outlook::v1::calendar_service_server::CalendarServiceServer;
use postern_proto::outlook::v1::contact_service_server::ContactServiceServer;
use postern_proto::outlook::v1::mail_service_server::MailServiceServer;
use tonic::server::NamedService as _;
use tonic::{Request, Response, Status};

use crate::account::Proof;
use crate::calendar::Calendars;
use crate::contacts::Contacts;
use crate::error::Error;
use crate::graph::Failure;
use crate::identity::Completed;
use crate::mail::{self, Mail};
use crate::outlook::{Call, Outlook, answer};
use crate::{identity, notifications, poll};

/// The action services, by full name.
pub(crate) const SERVICES: [&str; 3] = [
    MailServiceServer::<Mail>::NAME,
    CalendarServiceServer::<Calendars>::NAME,
    ContactServiceServer::<Contacts>::NAME,
];

/// The connector as its gateway sees it.
pub(crate) struct Connector {
    outlook: Arc<Outlook>,
}

impl Connector {
    pub(crate) fn new(outlook: Arc<Outlook>) -> Self {
        Self { outlook }
    }

    /// Asks for the Inbox: that needs a token, a mailbox and the right to read it, as all else does.
    async fn check(&self, call: &Call) -> Result<CheckConnectionResponse, Error> {
        call.account.check_sign_in()?;
        let mailbox = self.outlook.mailbox(call, "outlook.mailbox", "")?;
        let inbox = self.outlook.folders(call, &mailbox).show("inbox").await?;
        let count = |number: Option<i64>| number.unwrap_or_default();
        let details = format!(
            "{}: {} mails, {} unread",
            inbox.display_name.unwrap_or_default(),
            count(inbox.total_item_count),
            count(inbox.unread_item_count)
        );
        let signed_in = call.account.kept.as_ref().map(|kept| kept.account.clone());
        let signed_in = signed_in.filter(|account| !account.is_empty());
        let account = mailbox.user.clone().or(signed_in).unwrap_or_else(|| "me".to_owned());
        Ok(CheckConnectionResponse { account, details: vec![details] })
    }

    async fn refresh(&self, call: &Call) -> Result<RefreshCredentialsResponse, Error> {
        let claims = self.outlook.claims(&call.account);
        identity::sign_in(&self.outlook.client(&call.account)?, &call.account, claims, call.until).await
    }

    async fn start(&self, call: &Call, asked: &StartSignInRequest) -> Result<StartSignInResponse, Error> {
        identity::start(&self.outlook.client(&call.account)?, &call.account, asked, call.until).await
    }

    /// Goes on with a user's sign-in, and looks whether the connection is for whoever signed in.
    async fn complete(
        &self,
        mut call: Call,
        asked: &CompleteSignInRequest,
    ) -> Result<CompleteSignInResponse, Error> {
        let http = self.outlook.client(&call.account)?;
        let completed = identity::complete(&http, &call.account, asked, call.until).await?;
        let (made, who) = match completed {
            Completed::Grant(made, who) => (made, who),
            Completed::NotYet(answer) => return Ok(answer),
        };
        identity::check_account(&call.account, who.as_ref())?;
        if call.account.mailbox.is_some() {
            (call.account.token, _) = identity::read(&made.grant);
            let mailbox = self.outlook.mailbox(&call, "outlook.mailbox", "")?;
            // Only a clear no counts: a code is good for one use, and a Graph that is out of order says nothing of leave.
            match self.outlook.folders(&call, &mailbox).show("inbox").await {
                Err(Error::Graph(Failure::Refused(refusal))) if matches!(refusal.status, 403 | 404) => {
                    return Err(identity::not_its_mailbox());
                }
                Err(Error::NoFolder(Some(_))) => return Err(identity::not_its_mailbox()),
                _ => {}
            }
        }
        Ok(made)
    }
}

#[tonic::async_trait]
impl ConnectorService for Connector {
    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        Ok(Response::new(DescribeResponse {
            kind: "outlook".to_owned(),
            services: SERVICES.map(str::to_owned).to_vec(),
            trigger_kinds: ["new_email", "event_created", "event_modified", "event_starting_soon"]
                .map(str::to_owned)
                .to_vec(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sends_email: true,
            // The draft bears the request's mark, and the sent copy keeps it.
            send_is_repeatable: true,
            // Graph takes one body, and writes the other itself.
            sends_text_body: false,
            sign_in_kinds: vec![SignInKind::Browser.into(), SignInKind::DeviceCode.into()],
        }))
    }

    async fn validate_connection(
        &self,
        request: Request<ValidateConnectionRequest>,
    ) -> Result<Response<ValidateConnectionResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        let checked = call.account.check_sign_in().and_then(|()| self.outlook.client(&call.account));
        let needs_sign_in = matches!(call.account.proof, Proof::User { .. });
        let needs = ValidateConnectionResponse { needs_grant: true, needs_sign_in };
        answer("ValidateConnection", checked.map(|_| needs))
    }

    async fn check_connection(
        &self,
        request: Request<CheckConnectionRequest>,
    ) -> Result<Response<CheckConnectionResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("CheckConnection", self.check(&call).await)
    }

    async fn refresh_credentials(
        &self,
        request: Request<RefreshCredentialsRequest>,
    ) -> Result<Response<RefreshCredentialsResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("RefreshCredentials", self.refresh(&call).await)
    }

    async fn start_sign_in(
        &self,
        request: Request<StartSignInRequest>,
    ) -> Result<Response<StartSignInResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("StartSignIn", self.start(&call, request.get_ref()).await)
    }

    async fn complete_sign_in(
        &self,
        request: Request<CompleteSignInRequest>,
    ) -> Result<Response<CompleteSignInResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("CompleteSignIn", self.complete(call, request.get_ref()).await)
    }

    async fn send_email(
        &self,
        request: Request<SendEmailRequest>,
    ) -> Result<Response<SendEmailResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("SendEmail", mail::send_for_gateway(&self.outlook, call, request.into_inner()).await)
    }

    async fn check_trigger(
        &self,
        request: Request<CheckTriggerRequest>,
    ) -> Result<Response<CheckTriggerResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        let checked = poll::check_trigger(&self.outlook, &call, request.get_ref()).await;
        // Wrong fields are named from the Trigger on; here, as in what the gateway was asked, it is a field itself.
        answer("CheckTrigger", checked.map_err(|error| error.within("trigger")))
    }

    async fn poll(&self, request: Request<PollRequest>) -> Result<Response<PollResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("Poll", poll::poll(&self.outlook, &call, request.get_ref()).await)
    }

    async fn renew_notification(
        &self,
        request: Request<RenewNotificationRequest>,
    ) -> Result<Response<RenewNotificationResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("RenewNotification", notifications::renew(&self.outlook, &call, request.get_ref()).await)
    }

    async fn end_notification(
        &self,
        request: Request<EndNotificationRequest>,
    ) -> Result<Response<EndNotificationResponse>, Status> {
        let call = self.outlook.call(request.metadata())?;
        answer("EndNotification", notifications::end(&self.outlook, &call, request.get_ref()).await)
    }

    async fn read_notification(
        &self,
        request: Request<ReadNotificationRequest>,
    ) -> Result<Response<ReadNotificationResponse>, Status> {
        Ok(Response::new(notifications::read(request.get_ref())))
    }
}
