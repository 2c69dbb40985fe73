"""Sending as a client in another language does it: a mail looked at first, many on one stream, one in chunks, one twice."""

import hashlib
import queue
import uuid

import grpc

from postern.mail.v1 import mail_pb2 as mail
from postern.smtp.v1 import smtp_service_pb2 as smtp
from postern.smtp.v1 import smtp_service_pb2_grpc as smtp_grpc
from promises import CALL, check, equal, refused

# How many mails one stream hands over, and how many a careful caller has under way at once.
MANY = 200
UNDER_WAY = 20
# An attachment that no single message would carry, and the chunks that it travels in.
LARGE = 5 * 1024 * 1024
CHUNK = 256 * 1024


def large_bytes():
    """The bytes of the large attachment: not all alike, and the same each time."""
    block = b"".join(hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(CHUNK // 32))
    return (block * (LARGE // len(block) + 1))[:LARGE]


class Sending:
    """The steps. All mails go to one account, whose Inbox no trigger of the loop watches."""

    def __init__(self, channel, connection, sender, receiver, nobody):
        self.smtp = smtp_grpc.SmtpServiceStub(channel)
        self.connection, self.sender, self.receiver, self.nobody = connection, sender, receiver, nobody
        self.run = uuid.uuid4().hex[:8]

    def mail(self, subject, **others):
        """A plain mail to the receiver."""
        fields = {"from": self.sender, "to": [self.receiver], "subject": subject, "body": "Hello"} | others
        return mail.Email(**fields)

    def look_first(self):
        """CheckEmail shows what would be sent, names what is wrong, and sends nothing."""
        shown = self.smtp.CheckEmail(
            smtp.CheckEmailRequest(
                connection=self.connection,
                mail_id=f"look-{self.run}",
                email=self.mail("Grüße", bcc=[self.nobody]),
            ),
            timeout=CALL,
        )
        equal(shown.envelope_from, self.sender, "the envelope's sender")
        equal(list(shown.envelope_to), [self.receiver, self.nobody], "the envelope's recipients")
        check(b"Subject: =?utf-8?" in shown.mime and b"\r\n" in shown.mime, f"the message: {shown.mime!r}")
        check(self.nobody.encode() not in shown.mime, "who is in Bcc does not show")
        check(shown.message_id.encode() in shown.mime and shown.size == len(shown.mime), f"its id and size: {shown}")
        fields = refused(
            lambda: self.smtp.CheckEmail(
                smtp.CheckEmailRequest(connection=self.connection, email=self.mail("x", cc=["not an address"])),
                timeout=CALL,
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
            "FIELD_INVALID",
        )
        check(any(path.startswith("email.cc") for path in fields), f"BadRequest names email.cc: {fields}")

    def twice(self):
        """A request_id that is given again gets the first answer; with another mail it is refused. Gives the subject."""
        subject = f"Twice {self.run}"
        asked = smtp.SendEmailRequest(
            connection=self.connection, request_id=f"twice-{self.run}", email=self.mail(subject)
        )
        first = self.smtp.SendEmail(asked, timeout=CALL)
        again = self.smtp.SendEmail(asked, timeout=CALL)
        equal(again, first, "the answer to a request that was made before")
        asked.email.subject = "Another"
        refused(
            lambda: self.smtp.SendEmail(asked, timeout=CALL),
            grpc.StatusCode.INVALID_ARGUMENT,
            "REQUEST_ID_REUSED",
        )
        return subject

    def many(self):
        """Many mails on one stream: each is answered once, and the bad ones fail alone."""
        wanted = {f"many-{self.run}-{number}": number for number in range(MANY)}
        may_go = queue.Queue()
        for _ in range(UNDER_WAY):
            may_go.put(None)

        def asking():
            for request_id, number in wanted.items():
                may_go.get(timeout=CALL)
                to = {3: ["not an address"], 5: [self.nobody]}.get(number, [self.receiver])
                yield smtp.SendEmailsRequest(
                    connection=self.connection if number == 0 else "",
                    request_id=request_id,
                    email=self.mail(f"Many {number}", to=to),
                )

        answers = {}
        for answer in self.smtp.SendEmails(asking(), timeout=3 * CALL):
            check(answer.request_id in wanted, f"an answer to nothing that was asked: {answer}")
            check(answer.request_id not in answers, f"{answer.request_id} is answered twice")
            answers[answer.request_id] = answer
            may_go.put(None)
        equal(set(answers), set(wanted), "which mails were answered")
        reasons = {
            wanted[request_id]: answer.failure.reason
            for request_id, answer in answers.items()
            if answer.WhichOneof("outcome") == "failure"
        }
        equal(reasons, {3: "FIELD_INVALID", 5: "MESSAGE_REFUSED"}, "which mails failed, and why")
        ids = {answer.sent.message_id for answer in answers.values() if answer.WhichOneof("outcome") == "sent"}
        equal(len(ids), MANY - 2, "how many Message-IDs there are")

    def large(self, receiver, subject):
        """A mail whose attachment comes in chunks, to someone whose mailbox is read afterwards."""
        content = large_bytes()

        def parts():
            attachment = mail.LargeAttachment(
                file_name="large.bin", content_type="application/octet-stream", size=len(content)
            )
            yield smtp.SendLargeEmailRequest(
                connection=self.connection,
                request_id=f"large-{self.run}",
                email=smtp.LargeEmail(
                    email=self.mail(subject, to=[receiver]), large_attachments=[attachment]
                ),
            )
            for start in range(0, len(content), CHUNK):
                yield smtp.SendLargeEmailRequest(
                    chunk=mail.AttachmentChunk(attachment=0, data=content[start : start + CHUNK])
                )

        answer = self.smtp.SendLargeEmail(parts(), timeout=3 * CALL)
        equal([result.state for result in answer.recipients], [mail.RECIPIENT_STATE_ACCEPTED], "its recipient")
        return content
