#!/usr/bin/env python3
"""The whole loop as a client in another language sees it: a mail sent by SMTP comes back as an Outlook event.

Needs the packages of requirements.txt, and the stubs made from proto/ on PYTHONPATH. Runs against a gateway that is up,
with a sandbox whose addresses and secrets stand in a JSON file (what `postern-sandbox serve --ready-file` writes). With
--state FILE what was made is kept and the file remembers it: the next run with the same file goes on from the stored
cursor and checks that nothing was lost meanwhile.

Exit code 0: all held. 1: something did not; the last line says what.
"""

import argparse
import base64
import json
import pathlib
import sys
import time
import uuid

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from postern.connection.v1 import connection_service_pb2 as connections
from postern.connection.v1 import connection_service_pb2_grpc as connections_grpc
from postern.event.v1 import event_service_pb2 as events
from postern.event.v1 import event_service_pb2_grpc as events_grpc
from postern.event.v1 import trigger_service_pb2 as triggers
from postern.event.v1 import trigger_service_pb2_grpc as triggers_grpc
from postern.mail.v1 import mail_pb2 as mail
from postern.outlook.v1 import mail_service_pb2 as outlook
from postern.outlook.v1 import mail_service_pb2_grpc as outlook_grpc
from postern.outlook.v1 import outlook_settings_pb2 as outlook_settings
from postern.smtp.v1 import smtp_service_pb2 as smtp
from postern.smtp.v1 import smtp_service_pb2_grpc as smtp_grpc
from office import Office
from promises import ARRIVAL, CALL, Bearer, Wrong, check, equal, refused
from sending import Sending

LOGO = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
REPORT = "Größe;Menge\r\nklein;1\r\n".encode()

SERVICES = [
    "postern.connection.v1.ConnectionService",
    "postern.event.v1.EventService",
    "postern.event.v1.TriggerService",
    "postern.outlook.v1.CalendarService",
    "postern.outlook.v1.ContactService",
    "postern.outlook.v1.MailService",
    "postern.smtp.v1.SmtpService",
]


class Loop:
    """The steps, in the order in which a person would try them."""

    def __init__(self, channel, world, state):
        self.channel, self.world = channel, world
        self.connections = connections_grpc.ConnectionServiceStub(channel)
        self.triggers = triggers_grpc.TriggerServiceStub(channel)
        self.events = events_grpc.EventServiceStub(channel)
        self.smtp = smtp_grpc.SmtpServiceStub(channel)
        self.outlook = outlook_grpc.MailServiceStub(channel)
        self.state = state or {"tail": uuid.uuid4().hex[:8], "ids": [], "cursor": "", "sent": 0}
        tail = self.state["tail"]
        self.smtp_name = f"connections/loop-smtp-{tail}"
        self.outlook_name = f"connections/loop-outlook-{tail}"
        self.trigger_name = f"{self.outlook_name}/triggers/new-mail"
        self.reader, self.sender = world["accounts"][0], world["accounts"][-1]
        self.sending = Sending(channel, self.smtp_name, self.sender, self.sender, world["refused"])
        self.office = Office(channel, self.outlook_name)

    # What a gateway says of itself.

    def health(self):
        """The standard health service answers for the whole and for each service."""
        stub = health_pb2_grpc.HealthStub(self.channel)
        for service in ["", *SERVICES]:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=CALL)
            equal(answer.status, health_pb2.HealthCheckResponse.SERVING, f"the health of {service!r}")

    def reflection(self):
        """Standard tools find every service, method and message by reflection."""
        database = ProtoReflectionDescriptorDatabase(self.channel)
        found = set(database.get_services())
        missing = set(SERVICES) - found
        check(not missing, f"reflection does not show {sorted(missing)}")
        inner = [name for name in found if name.startswith("postern.connector.")]
        check(not inner, f"reflection shows what is between gateway and connectors: {inner}")
        pool = DescriptorPool(database)
        for name in SERVICES:
            methods = pool.FindServiceByName(name).methods
            check(methods and all(method.input_type.fields is not None for method in methods), f"{name} is empty")

    # What goes wrong is said in a way that programs can read.

    def errors(self):
        """Errors carry ErrorInfo, and BadRequest where fields are wrong."""
        port = connections.Connection(smtp={"server": "mail.example.org", "port": 99999})
        fields = refused(
            lambda: self.connections.CreateConnection(
                connections.CreateConnectionRequest(connection=port), timeout=CALL
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
            "FIELD_INVALID",
        )
        check(any(path.endswith("smtp.port") for path in fields), f"BadRequest names smtp.port: {fields}")
        nowhere = smtp.SendEmailRequest(connection="connections/nobody-made-this")
        refused(lambda: self.smtp.SendEmail(nowhere, timeout=CALL), grpc.StatusCode.NOT_FOUND, "CONNECTION_NOT_FOUND")

    # The loop.

    def connect(self):
        """Two connections are made, work, and give no secret back."""
        server, graph = self.world["smtp"], self.world["graph"]
        made = {
            self.smtp_name: connections.Connection(
                display_name="the loop's SMTP server",
                smtp={
                    "server": server["host"],
                    "port": server["port"],
                    "username": server["username"],
                    "ca_certificates": server["ca_certificates"],
                },
                smtp_credentials={"password": server["password"]},
            ),
            self.outlook_name: connections.Connection(
                display_name="the loop's mailbox",
                outlook={
                    "tenant": graph["tenant"],
                    "client_id": graph["client_id"],
                    "mailbox": self.reader,
                    "cloud": outlook_settings.CLOUD_CUSTOM,
                    "custom_cloud": {
                        "graph_url": graph["graph_url"],
                        "login_url": graph["login_url"],
                        "ca_certificates": graph.get("ca_certificates", ""),
                        "allow_plaintext": graph["graph_url"].startswith("http://"),
                    },
                },
                outlook_credentials={"client_secret": graph["client_secret"]},
            ),
        }
        for name, connection in made.items():
            stored = self.connections.CreateConnection(
                connections.CreateConnectionRequest(
                    request_id=uuid.uuid4().hex, connection_id=name.split("/")[1], connection=connection
                ),
                timeout=CALL,
            ).connection
            equal(stored.name, name, "the stored connection's name")
            checked = self.connections.CheckConnection(connections.CheckConnectionRequest(name=name), timeout=CALL)
            equal(checked.connection.state, connections.CONNECTION_STATE_READY, f"the state of {name}")
            read = self.connections.GetConnection(connections.GetConnectionRequest(name=name), timeout=CALL)
            for secret in (server["password"], graph["client_secret"]):
                check(secret.encode() not in read.SerializeToString(), f"{name} gives a secret back")
            check(read.connection.WhichOneof("credentials") is None, f"{name} gives its credentials back")

    def reconnect(self):
        """A sandbox that was started anew has another certificate: the update changes that and nothing else."""
        server = self.world["smtp"]
        asked = connections.GetConnectionRequest(name=self.smtp_name)
        before = self.connections.GetConnection(asked, timeout=CALL).connection
        changed = connections.Connection(
            name=self.smtp_name, etag=before.etag, smtp={"ca_certificates": server["ca_certificates"]}
        )
        after = self.connections.UpdateConnection(
            connections.UpdateConnectionRequest(
                request_id=uuid.uuid4().hex, connection=changed, update_mask={"paths": ["smtp.ca_certificates"]}
            ),
            timeout=CALL,
        ).connection
        equal(after.smtp.ca_certificates, server["ca_certificates"], "the certificates after the update")
        before.smtp.ca_certificates = server["ca_certificates"]
        equal(after.smtp, before.smtp, "the settings that were not named")
        equal(after.display_name, before.display_name, "the name that was not named")
        self.connections.CheckConnection(connections.CheckConnectionRequest(name=self.smtp_name), timeout=CALL)

    def watch(self):
        """A trigger is stored that watches the Inbox for this loop's mails: others may send there too."""
        watched = {"folder_path": "Inbox", "subject_filter": f"loop {self.state['tail']} "}
        trigger = triggers.Trigger(interval={"seconds": 1}, new_email=watched)
        stored = self.triggers.CreateTrigger(
            triggers.CreateTriggerRequest(
                connection=self.outlook_name, request_id=uuid.uuid4().hex, trigger_id="new-mail", trigger=trigger
            ),
            timeout=CALL,
        ).trigger
        equal(stored.name, self.trigger_name, "the stored trigger's name")

    def subscribe(self, **start):
        """Opens a stream of the trigger's events, and gives it with the cursor that it opened with."""
        request = events.SubscribeRequest(
            filter={"sources": [self.trigger_name], "types": ["email.received"]}, start=start
        )
        stream = self.events.Subscribe(request, timeout=ARRIVAL)
        first = next(stream)
        equal(first.WhichOneof("kind"), "opened", "the first answer of a stream")
        return stream, first.opened.cursor

    def arriving(self, stream, count):
        """The next `count` events of a stream, which is then cancelled."""
        arrived = []
        try:
            for answer in stream:
                kind = answer.WhichOneof("kind")
                check(kind != "gap", f"a gap was told: {answer}")
                arrived.extend(answer.batch.events if kind == "batch" else [])
                if len(arrived) >= count:
                    break
        except grpc.RpcError as error:
            raise Wrong(f"{len(arrived)} of {count} events arrived, then {error.code()} {error.details()}") from error
        finally:
            stream.cancel()
        equal(len(arrived), count, "how many events arrived")
        return arrived

    def send(self):
        """Sends an HTML mail with two attachments to one who is there and one who is not, and gives its subject."""
        self.state["sent"] += 1
        subject = f"Loop {self.state['tail']} number {self.state['sent']}: Grüße"
        answer = self.smtp.SendEmail(
            smtp.SendEmailRequest(
                connection=self.smtp_name,
                request_id=uuid.uuid4().hex,
                email=mail.Email(
                    **{"from": f"The Loop <{self.sender}>"},
                    to=[f"{self.reader}; {self.world['refused']}"],
                    subject=subject,
                    body='<p>A mail with a <b>logo</b>: <img src="cid:logo"></p>',
                    is_html=True,
                    attachments=[
                        mail.Attachment(file_name="größe.csv", content_data=REPORT, content_type="text/csv"),
                        mail.Attachment(
                            file_name="logo.png", content_id="logo", content_data=LOGO, content_type="image/png"
                        ),
                    ],
                ),
            ),
            timeout=CALL,
        )
        results = {result.address: result for result in answer.recipients}
        equal(set(results), {self.reader, self.world["refused"]}, "whose results are told")
        equal(results[self.reader].state, mail.RECIPIENT_STATE_ACCEPTED, "the one who is there")
        other = results[self.world["refused"]]
        equal(other.state, mail.RECIPIENT_STATE_REFUSED_PERMANENT, "the one who is not there")
        check(500 <= other.reply.code < 600 and other.reply.text, f"the refusal's own reply is told: {other.reply}")
        check(answer.message_id.startswith("<") and answer.reply.code == 250, f"the send's answer: {answer}")
        return subject

    def told(self, event, subject):
        """Checks an event of a mail that `send` sent, and remembers it."""
        email = event.data.new_email
        equal((event.source, event.trigger), (self.trigger_name, self.trigger_name), "where an event came from")
        equal(event.type, "email.received", "an event's type")
        equal(email.subject, subject, "an event's subject")
        equal(getattr(email, "from").address, self.sender, "who it is from")
        check(email.is_html and "<b>logo</b>" in email.body, f"its body: {email.body!r}")
        check(email.has_attachment, "it has an attachment")
        check(event.id and event.cursor, "an event has an id and a cursor")
        check(event.id not in self.state["ids"], f"{event.id} was told before")
        self.state["ids"].append(event.id)
        self.state["cursor"] = base64.b64encode(event.cursor).decode()

    def first_mail(self):
        """A mail sent by SMTP comes back as an event, on a stream that was open before."""
        stream, _ = self.subscribe(latest={})
        subject = self.send()
        [event] = self.arriving(stream, 1)
        self.told(event, subject)

    def next_mail(self):
        """With the cursor of the last event a new stream gives what came next, and nothing else."""
        subject = self.send()
        stream, opened = self.subscribe(cursor=base64.b64decode(self.state["cursor"]))
        equal(base64.b64encode(opened).decode(), self.state["cursor"], "where a resumed stream starts")
        [event] = self.arriving(stream, 1)
        self.told(event, subject)

    def nothing_lost(self):
        """From the beginning of the log every event told so far is told again, in the same order."""
        stream, _ = self.subscribe(earliest={})
        again = [event.id for event in self.arriving(stream, len(self.state["ids"]))]
        equal(again, self.state["ids"], "the events from the beginning of the log")

    def read(self):
        """The mails are in the account, with their attachments."""
        answer = self.outlook.GetEmails(
            outlook.GetEmailsRequest(connection=self.outlook_name, top=1, include_attachments=True), timeout=CALL
        )
        equal(len(answer.emails), 1, "how many mails the Inbox gives for top=1")
        attachments = {item.file_name: item for item in answer.emails[0].attachments}
        equal(set(attachments), {"größe.csv", "logo.png"}, "the attachments of the newest mail")
        equal(attachments["größe.csv"].content_data, REPORT, "the report's bytes")
        logo = attachments["logo.png"]
        equal((logo.content_data, logo.is_inline, logo.content_id), (LOGO, True, "logo"), "the inline picture")

    def twice(self):
        """A mail that is asked for twice with one request_id arrives once."""
        subject = self.sending.twice()
        asked = outlook.GetEmailsRequest(connection=self.outlook_name, mailbox=self.sender, top=10)
        arrived = [email.subject for email in self.outlook.GetEmails(asked, timeout=CALL).emails]
        equal(arrived.count(subject), 1, "how often a mail arrived that was asked for twice")

    def large_mail(self):
        """A mail with an attachment that comes in chunks is read again in chunks."""
        subject = f"Large {uuid.uuid4().hex[:8]}"
        self.office.attachment(subject, self.sending.large(self.reader, subject))

    def remove(self):
        """A connection in use is kept until its trigger is gone; then both connections are deleted."""
        in_use = connections.DeleteConnectionRequest(request_id=uuid.uuid4().hex, name=self.outlook_name)
        refused(
            lambda: self.connections.DeleteConnection(in_use, timeout=CALL),
            grpc.StatusCode.FAILED_PRECONDITION,
            "CONNECTION_IN_USE",
        )
        gone = triggers.DeleteTriggerRequest(request_id=uuid.uuid4().hex, name=self.trigger_name)
        self.triggers.DeleteTrigger(gone, timeout=CALL)
        for name in (self.smtp_name, self.outlook_name):
            gone = connections.DeleteConnectionRequest(request_id=uuid.uuid4().hex, name=name)
            self.connections.DeleteConnection(gone, timeout=CALL)
            refused(
                lambda name=name: self.connections.GetConnection(
                    connections.GetConnectionRequest(name=name), timeout=CALL
                ),
                grpc.StatusCode.NOT_FOUND,
                "CONNECTION_NOT_FOUND",
            )


def parse():
    """Reads the arguments."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--gateway", required=True, help="the gateway's address, HOST:PORT")
    arguments.add_argument("--world", required=True, type=pathlib.Path, help="the sandbox's JSON file")
    arguments.add_argument("--token-file", type=pathlib.Path, help="the caller's bearer token")
    arguments.add_argument("--state", type=pathlib.Path, help="where to remember what was made, and go on from it")
    return arguments.parse_args()


def main():
    """Runs the steps; those that make things only where nothing is remembered."""
    given = parse()
    world = json.loads(given.world.read_text())
    token = given.token_file.read_text().strip() if given.token_file else None
    kept = given.state
    state = json.loads(kept.read_text()) if kept and kept.exists() else None
    channel = grpc.intercept_channel(grpc.insecure_channel(given.gateway), Bearer(token))
    loop = Loop(channel, world, state)
    steps = [loop.health, loop.reflection, loop.errors]
    if state is None:
        steps += [loop.connect, loop.watch, loop.first_mail]
    else:
        steps += [loop.reconnect]
    steps += [loop.next_mail, loop.nothing_lost, loop.read]
    steps += [loop.sending.look_first, loop.twice, loop.sending.many, loop.large_mail]
    steps += [loop.office.entry, loop.office.contact]
    if not kept:
        steps += [loop.remove]
    for step in steps:
        begun = time.monotonic()
        try:
            step()
        except (Wrong, grpc.RpcError) as error:
            said = error if isinstance(error, Wrong) else f"{error.code()} {error.details()}"
            print(f"  {step.__name__:14} FAILED: {said}")
            return 1
        print(f"  {step.__name__:14} {time.monotonic() - begun:6.2f} s")
    if kept:
        kept.write_text(json.dumps(loop.state))
    return 0


if __name__ == "__main__":
    sys.exit(main())
