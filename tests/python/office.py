"""Work with a mailbox as a client in another language does it: an attachment in chunks, calendar entries and their
events, contacts. What is made is deleted again.
"""

import uuid
from datetime import datetime, timedelta, timezone

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from postern.event.v1 import event_service_pb2 as events
from postern.event.v1 import event_service_pb2_grpc as events_grpc
from postern.event.v1 import trigger_service_pb2 as triggers
from postern.event.v1 import trigger_service_pb2_grpc as triggers_grpc
from postern.outlook.v1 import calendar_pb2, calendar_service_pb2, calendar_service_pb2_grpc
from postern.outlook.v1 import contact_pb2, contact_service_pb2, contact_service_pb2_grpc
from postern.outlook.v1 import mail_service_pb2, mail_service_pb2_grpc
from promises import ARRIVAL, CALL, Wrong, check, equal, refused


def at(time):
    """A moment as the contract has it."""
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


class Office:
    """The steps, on one Outlook connection."""

    def __init__(self, channel, connection):
        self.mail = mail_service_pb2_grpc.MailServiceStub(channel)
        self.calendar = calendar_service_pb2_grpc.CalendarServiceStub(channel)
        self.contacts = contact_service_pb2_grpc.ContactServiceStub(channel)
        self.triggers = triggers_grpc.TriggerServiceStub(channel)
        self.events = events_grpc.EventServiceStub(channel)
        self.connection = connection
        self.run = uuid.uuid4().hex[:8]

    def new(self):
        """A request_id, with the connection, for a change."""
        return {"connection": self.connection, "request_id": uuid.uuid4().hex}

    def gone(self, call):
        """A call for what is not there any more."""
        refused(call, grpc.StatusCode.NOT_FOUND, "ITEM_NOT_FOUND")

    def attachment(self, subject, content):
        """The newest mail's one attachment is told with its size and comes in chunks, byte for byte."""
        asked = mail_service_pb2.GetEmailsRequest(connection=self.connection, top=1)
        [email] = self.mail.GetEmails(asked, timeout=CALL).emails
        equal(email.subject, subject, "the newest mail")
        asked.include_attachments = True
        [email] = self.mail.GetEmails(asked, timeout=CALL).emails
        [told] = email.attachments
        check(told.content_omitted and not told.content_data, f"a large attachment is told without content: {told.size}")
        parts = self.mail.GetAttachment(
            mail_service_pb2.GetAttachmentRequest(
                connection=self.connection, message_id=email.id, attachment_id=told.id
            ),
            timeout=CALL,
        )
        first = next(parts)
        equal(first.WhichOneof("part"), "attachment", "the first part of an attachment")
        equal(first.attachment.file_name, "large.bin", "the attachment's name")
        chunks = [part.chunk for part in parts]
        check(all(0 < len(chunk) <= 256 * 1024 for chunk in chunks), "a chunk has at most 256 KiB")
        check(b"".join(chunks) == content, "the attachment's bytes are those that were sent")
        self.mail.DeleteEmail(mail_service_pb2.DeleteEmailRequest(message_id=email.id, **self.new()), timeout=CALL)

    def entry(self):
        """A calendar entry is made, told, listed, changed where it was asked and nowhere else, and deleted."""
        trigger = self.watch_calendar()
        stream = self.events.Subscribe(
            events.SubscribeRequest(filter={"sources": [trigger], "types": ["calendar_event"]}, start={"latest": {}}),
            timeout=ARRIVAL,
        )
        equal(next(stream).WhichOneof("kind"), "opened", "the first answer of a stream")
        start = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=2)
        item = calendar_pb2.CalendarEvent(
            subject=f"Review {self.run}",
            start=at(start),
            end=at(start + timedelta(hours=1)),
            start_time_zone="Europe/Berlin",
            end_time_zone="Europe/Berlin",
            body="<p>Grüße</p>",
            is_html=True,
            location={"display_name": "Room 7"},
            categories=["Blue category"],
        )
        asked = calendar_service_pb2.CreateEventRequest(item=item, **self.new())
        made = self.calendar.CreateEvent(asked, timeout=CALL).event
        equal(self.calendar.CreateEvent(asked, timeout=CALL).event.id, made.id, "the entry of a repeated request")
        equal((made.subject, made.start, made.start_time_zone), (item.subject, item.start, "Europe/Berlin"), "as made")
        self.told(stream, trigger, made)

        window = {"window_start": at(start - timedelta(hours=1)), "window_end": at(start + timedelta(hours=2))}
        asked = calendar_service_pb2.GetEventsRequest(connection=self.connection, **window)
        listed = self.calendar.GetEvents(asked, timeout=CALL).events
        equal([entry.id for entry in listed if entry.subject == item.subject], [made.id], "the entries in the window")

        change = calendar_service_pb2.UpdateEventRequest(
            id=made.id, item={"subject": "Moved"}, update_mask={"paths": ["subject"]}, **self.new()
        )
        self.calendar.UpdateEvent(change, timeout=CALL)
        asked = calendar_service_pb2.GetEventRequest(connection=self.connection, id=made.id)
        read = self.calendar.GetEvent(asked, timeout=CALL).event
        equal(read.subject, "Moved", "what was changed")
        for kept in ("start", "end", "start_time_zone", "location", "categories", "reminder", "show_as", "is_html"):
            equal(getattr(read, kept), getattr(made, kept), f"{kept}, which was not named")

        calendars = self.calendar.GetCalendars(
            calendar_service_pb2.GetCalendarsRequest(connection=self.connection), timeout=CALL
        ).calendars
        equal(sum(calendar.is_default_calendar for calendar in calendars), 1, "how many calendars are the default one")
        self.calendar.DeleteEvent(calendar_service_pb2.DeleteEventRequest(id=made.id, **self.new()), timeout=CALL)
        self.gone(lambda: self.calendar.GetEvent(asked, timeout=CALL))
        stop = triggers.DeleteTriggerRequest(request_id=uuid.uuid4().hex, name=trigger)
        self.triggers.DeleteTrigger(stop, timeout=CALL)

    def watch_calendar(self):
        """A trigger that tells of new entries; gives its name."""
        trigger = triggers.Trigger(interval={"seconds": 1}, event_created={})
        request = triggers.CreateTriggerRequest(trigger_id=f"entries-{self.run}", trigger=trigger, **self.new())
        return self.triggers.CreateTrigger(request, timeout=CALL).trigger.name

    def told(self, stream, trigger, made):
        """The next event of a stream tells of the entry that was made; the stream is then cancelled."""
        try:
            event = next(event for answer in stream for event in answer.batch.events)
        except (StopIteration, grpc.RpcError) as error:
            raise Wrong(f"no event told of a new calendar entry: {error}") from error
        finally:
            stream.cancel()
        equal((event.type, event.source), ("calendar_event.created", trigger), "the event of a new entry")
        entry = event.data.event_created
        equal((entry.id, entry.subject, entry.start), (made.id, made.subject, made.start), "the entry in its event")

    def contact(self):
        """A contact is made, found by a condition, changed where it was asked and nowhere else, and deleted."""
        folders = self.contacts.GetContactFolders(
            contact_service_pb2.GetContactFoldersRequest(connection=self.connection), timeout=CALL
        ).folders
        equal(sum(folder.is_default for folder in folders), 1, "how many folders are the default one")
        company = f"Company {self.run}"
        item = contact_pb2.Contact(
            given_name="Zoë",
            surname="Müller",
            company_name=company,
            email_addresses=[{"address": "zoe@example.net", "name": "Zoë Müller"}],
            mobile_phone="+43 1 234",
            birthday="1990-02-28",
        )
        asked = contact_service_pb2.CreateContactRequest(item=item, **self.new())
        made = self.contacts.CreateContact(asked, timeout=CALL).contact
        found = self.contacts.GetContacts(
            contact_service_pb2.GetContactsRequest(connection=self.connection, filter=f"companyName eq '{company}'"),
            timeout=CALL,
        ).contacts
        equal([contact.id for contact in found], [made.id], "the contacts of the company")
        change = contact_service_pb2.UpdateContactRequest(
            id=made.id, item={"job_title": "Lead"}, update_mask={"paths": ["job_title", "mobile_phone"]}, **self.new()
        )
        self.contacts.UpdateContact(change, timeout=CALL)
        asked = contact_service_pb2.GetContactRequest(connection=self.connection, id=made.id)
        read = self.contacts.GetContact(asked, timeout=CALL).contact
        equal((read.job_title, read.mobile_phone), ("Lead", ""), "what was changed, and what was emptied")
        for kept in ("given_name", "surname", "company_name", "email_addresses", "birthday"):
            equal(getattr(read, kept), getattr(item, kept), f"{kept}, which was not named")
        gone = contact_service_pb2.DeleteContactRequest(id=made.id, **self.new())
        self.contacts.DeleteContact(gone, timeout=CALL)
        self.gone(lambda: self.contacts.GetContact(asked, timeout=CALL))
