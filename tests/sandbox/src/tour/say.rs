//! What the tour prints: each step with the time it took, and what to try next.

use std::io::Write as _;

use postern_chassis::serve::BoxError;
use tokio::time::Instant;

use crate::place::{ANNA, BO, Place};

/// The steps so far.
pub(super) struct Steps {
    begun: Instant,
    last: Instant,
    number: u32,
    run: String,
}

impl Steps {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let run = std::iter::repeat_with(fastrand::lowercase).take(6).collect();
        Self { begun: now, last: now, number: 0, run }
    }

    /// A subject that no other tour has.
    pub(super) fn tag(&self, which: &str) -> String {
        format!("The {which} report {}", self.run)
    }

    /// A step that held.
    pub(super) fn done(&mut self, what: &str, detail: String) -> Result<(), BoxError> {
        self.number += 1;
        let now = Instant::now();
        let took = now.duration_since(self.last).as_secs_f64() * 1_000.0;
        self.last = now;
        print(&format!("{:>2}. {what:<42} {took:>8.1} ms   {detail}", self.number))
    }

    /// More about the step that was done.
    pub(super) fn detail(&self, text: &str) -> Result<(), BoxError> {
        print(&format!("      {text}"))
    }

    /// The end of the tour.
    pub(super) fn all_held(&self) -> Result<(), BoxError> {
        let took = self.begun.elapsed().as_secs_f64();
        print(&format!("All {} steps held, in {took:.1} s.", self.number))
    }
}

/// Prints ready-made commands to go on with. `console`: where that of the gateway is that was started.
pub(super) fn what_to_try(url: &str, console: Option<&str>, place: &Place) -> Result<(), BoxError> {
    let console = match console {
        Some(address) => format!(
            "The console is at http://{address}/console: connections, triggers, live events, approvals, the outbox. It \
             asks for no token, for\nnone is set up, and answers this machine alone."
        ),
        None => "Where this gateway listens for HTTP (--http-listen), its console is at /console there: sign in with a \
                 caller's token, such\nas the one that the sandbox uses (--token-file)."
            .to_owned(),
    };
    let address = url.trim_start_matches("http://").trim_start_matches("https://");
    print(&format!(
        r#"
The gateway is on {url}, the SMTP server on {smtp}, the small Graph on {graph}.

{console}

Try, from the project's folder:

  # watch events as they come (grpcurl; leave it running in a terminal of its own)
  grpcurl -plaintext {address} postern.event.v1.EventService/Subscribe

  # send a mail, and see its event come
  grpcurl -plaintext -d '{{"connection":"connections/sandbox-smtp","email":{{"from":"{BO}","to":["{ANNA}"],"subject":"Hello","body":"Hi Anna"}}}}' \
    {address} postern.smtp.v1.SmtpService/SendEmail

  # the same with buf
  npx @bufbuild/buf curl --protocol grpc --http2-prior-knowledge -d '{{"connection":"connections/sandbox-smtp","email":{{"from":"{BO}","to":["{ANNA}"],"subject":"Hello","body":"Hi Anna"}}}}' \
    {url}/postern.smtp.v1.SmtpService/SendEmail

  # read Anna's Inbox
  grpcurl -plaintext -d '{{"connection":"connections/sandbox-outlook","top":3}}' {address} postern.outlook.v1.MailService/GetEmails

  # what there is: services, connections, triggers
  grpcurl -plaintext {address} list
  grpcurl -plaintext {address} postern.connection.v1.ConnectionService/ListConnections
  grpcurl -plaintext {address} postern.event.v1.TriggerService/ListTriggers

  # Python: stubs once, then a mail
  python3 -m venv target/try && target/try/bin/pip install -q grpcio grpcio-tools
  target/try/bin/python -m grpc_tools.protoc -Iproto --python_out=target/try --grpc_python_out=target/try $(find proto/postern -name '*.proto')
  PYTHONPATH=target/try target/try/bin/python -c "
import grpc
from postern.mail.v1.mail_pb2 import Email
from postern.smtp.v1 import smtp_service_pb2 as smtp, smtp_service_pb2_grpc as service
stub = service.SmtpServiceStub(grpc.insecure_channel('{address}'))
print(stub.SendEmail(smtp.SendEmailRequest(connection='connections/sandbox-smtp', email=Email(**{{'from': '{BO}', 'to': ['{ANNA}'], 'subject': 'Hello from Python', 'body': 'Hi'}}))))
"

Ctrl-C stops everything."#,
        smtp = place.smtp.address(),
        graph = place.graph.url(),
    ))
}

/// Prints a line at once, whoever reads.
fn print(line: &str) -> Result<(), BoxError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
