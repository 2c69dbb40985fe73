"""Compares mail that arrived with what was asked to be sent, field by field, and prints every difference.

It reads JSON from its input: a list of objects with `name`, `message` (base64 of what arrived) and either `email` (the
fields that were sent) or `raw` (base64 of the message that was given), and optionally `dkim` (domain, selector, record).
It exits with 0 where there is no difference. It knows mail by Python's own `email` package and by dkimpy alone.
"""

import base64
import email
import email.policy
import email.utils
import json
import re
import sys

import dkim

PRIORITIES = {"low": "5", "high": "1"}
# Fields that stand in a message at most once (RFC 5322, section 3.6, RFC 2045).
ONCE = [
    "date", "from", "sender", "reply-to", "to", "cc", "message-id", "in-reply-to", "references", "subject",
    "mime-version", "content-type", "content-transfer-encoding",
]
MOST_OCTETS = 998


class Judge:
    """The differences of one mail."""

    def __init__(self, case):
        self.name = case["name"]
        self.bytes = base64.b64decode(case["message"])
        self.message = email.message_from_bytes(self.bytes, policy=email.policy.default)
        self.found = []

    def differ(self, what, wanted, found):
        self.found.append(f"{self.name}: {what}: wanted {wanted!r}, found {found!r}")

    def same(self, what, wanted, found):
        if wanted != found:
            self.differ(what, wanted, found)

    # What holds of any message.

    def well_formed(self, utf8):
        lines = self.bytes.split(b"\r\n")
        self.same("the last line ends", b"", lines[-1])
        for line in lines:
            if b"\r" in line or b"\n" in line or b"\0" in line:
                self.differ("a line", "no bare CR, LF or NUL", line[:60])
            if len(line) > MOST_OCTETS:
                self.differ("a line's octets", f"at most {MOST_OCTETS}", len(line))
        head = self.bytes.split(b"\r\n\r\n", 1)[0]
        if not utf8 and not head.isascii():
            self.differ("the header", "ASCII", head)
        names = [name.lower() for name in self.message.keys()]
        for name in ONCE:
            if names.count(name) > 1:
                self.differ(name, "once", names.count(name))
        for name in ("date", "from", "message-id"):
            if name not in names:
                self.differ(name, "there", "missing")
        if email.utils.parsedate_to_datetime(self.message["date"] or "").tzinfo is None:
            self.differ("Date", "a time with its zone", self.message["date"])
        self.same("Bcc", [], self.message.get_all("bcc", []))
        for part in self.message.walk():
            for defect in part.defects:
                self.differ("a part", "no defect", repr(defect))
            encoding = str(part.get("content-transfer-encoding", "7bit")).lower()
            if encoding == "7bit" and not part.is_multipart() and not raw_payload(part).isascii():
                self.differ("a 7bit part", "ASCII", raw_payload(part)[:60])

    # A mail by its fields.

    def email(self, wanted):
        message = self.message
        self.well_formed(wanted["utf8"])
        self.same("Message-ID", wanted["message_id"], str(message["message-id"]).strip())
        self.same("Subject", wanted["subject"], str(message["subject"] or ""))
        for field, name in (
            ("from", "From"), ("to", "To"), ("cc", "Cc"), ("reply_to", "Reply-To"), ("sender", "Sender"),
            ("read_receipt_to", "Disposition-Notification-To"), ("delivery_receipt_to", "Return-Receipt-To"),
        ):
            self.same(name, mailboxes(wanted[field]), self.header_mailboxes(name))
        self.importance(wanted["importance"])
        for name, value in wanted["headers"]:
            found = [unfolded(one) for one in message.get_all(name, [])]
            if value not in found:
                self.differ(name, value, found)
        self.list_unsubscribe(wanted["list_unsubscribe"])
        self.same("In-Reply-To", ids([wanted["in_reply_to"]]), ids([message["in-reply-to"] or ""]))
        references = wanted["references"] or [wanted["in_reply_to"]]
        self.same("References", ids(references), ids([message["references"] or ""]))
        for address in wanted["bcc"]:
            # A server may write down in Received whom it took a mail for that has one recipient.
            values = [str(value) for name, value in message.items() if name.lower() != "received"]
            if any(address in value for value in values):
                self.differ("the header", f"nothing of {address}", "it is there")
        self.parts(wanted)

    def header_mailboxes(self, name):
        # As text, since a header of SMTPUTF8 holds UTF-8, which the parser of bytes leaves as it is.
        head = self.bytes.split(b"\r\n\r\n", 1)[0].decode("utf-8", "replace")
        found = email.message_from_string(head, policy=email.policy.default).get_all(name, [])
        boxes = []
        for one in found:
            addresses = getattr(one, "addresses", None)
            if addresses is None:
                addresses = email.policy.default.header_factory("to", unfolded(one)).addresses
            boxes += [(box.display_name, plain(box.addr_spec)) for box in addresses]
        return boxes

    def importance(self, wanted):
        name = str(self.message["importance"] or "normal").lower()
        self.same("Importance", wanted, name)
        priority = str(self.message["x-priority"] or "3").split()[0]
        self.same("X-Priority", PRIORITIES.get(wanted, "3"), priority)

    def list_unsubscribe(self, wanted):
        value = unfolded(self.message["list-unsubscribe"] or "")
        if not wanted:
            self.same("List-Unsubscribe", "", value)
            return
        targets = []
        if wanted["url"]:
            targets.append(wanted["url"])
        if wanted["mailto"]:
            targets.append("mailto:" + wanted["mailto"].removeprefix("mailto:"))
        self.same("List-Unsubscribe", sorted(targets), sorted(re.findall(r"<([^>]*)>", value)))
        post = unfolded(self.message["list-unsubscribe-post"] or "")
        self.same("List-Unsubscribe-Post", "List-Unsubscribe=One-Click" if wanted["one_click"] else "", post)

    def parts(self, wanted):
        leaves = list(leaves_of(self.message))
        bodies = [(part, above) for part, above in leaves if is_body(part)]
        text, html, calendar = (find(bodies, kind) for kind in ("text/plain", "text/html", "text/calendar"))
        self.body("the text", wanted["text"], text)
        self.body("the HTML", wanted["html"], html)
        if wanted["text"] is not None and wanted["html"] is not None and text and html:
            shared = [above for above in text[1] if above in html[1]]
            kind = shared[-1].get_content_type() if shared else "nothing"
            self.same("text and HTML stand in", "multipart/alternative", kind)
            order = [kinds(part) for part in shared[-1].iter_parts()] if shared else []
            self.same("the text stands first", ["text/plain"], order[0] if order else None)
        self.calendar(wanted["calendar"], calendar, text or html)
        files = [(part, above) for part, above in leaves if not is_body(part)]
        asked = list(wanted["attachments"])
        if wanted["calendar"]:
            name = wanted["calendar"]["file_name"] or "invite.ics"
            copies = [part for part, _ in files if part.get_filename() == name]
            self.same("copies of the invitation", 1, len(copies))
            if copies:
                self.same("the copy", lines_of(wanted["calendar"]["content"].encode()), lines_of(content(copies[0])))
            files = [(part, above) for part, above in files if part not in copies]
        self.same("how many files", len(asked), len(files))
        # Inline parts stand with the HTML, hence before the others.
        asked.sort(key=lambda file: not file["content_id"])
        for file, (part, above) in zip(asked, files):
            self.file(file, part, above, html)

    def body(self, what, wanted, found):
        if wanted is None:
            self.same(what, None, found and content(found[0]))
            return
        if not found:
            self.differ(what, "a part", "none")
            return
        part = found[0]
        if part.get_content_charset("us-ascii") not in ("utf-8", "us-ascii"):
            self.differ(what, "UTF-8", part.get_content_charset())
        self.same(what, lines_of(wanted.encode()), lines_of(content(part)))

    def calendar(self, wanted, found, other):
        if not wanted:
            self.same("an invitation", None, found and content(found[0]))
            return
        if not found:
            self.differ("the invitation", "a part", "none")
            return
        part, above = found
        method = re.search(r"^METHOD:(\S+)", wanted["content"], re.MULTILINE).group(1)
        self.same("the invitation's method", method, part["content-type"].params.get("method"))
        self.same("the invitation's charset", "utf-8", part.get_content_charset())
        self.same("the invitation", lines_of(wanted["content"].encode()), lines_of(content(part)))
        kind = above[-1].get_content_type() if above else "nothing"
        self.same("the invitation stands in", "multipart/alternative", kind)
        if not other or above[-1] not in other[1]:
            self.differ("the invitation", "an alternative of the body", "it stands elsewhere")

    def file(self, wanted, part, above, html):
        what = wanted["file_name"] or wanted["content_id"]
        self.same(f"{what}: type", wanted["content_type"], part.get_content_type())
        if wanted["file_name"]:
            self.same(f"{what}: name", wanted["file_name"], part.get_filename())
        inline = bool(wanted["content_id"])
        self.same(f"{what}: disposition", "inline" if inline else "attachment", part.get_content_disposition())
        found = unfolded(part["content-id"] or "").strip("<>")
        self.same(f"{what}: Content-ID", wanted["content_id"], found)
        if inline and html:
            related = [one for one in above if one.get_content_type() == "multipart/related"]
            if not related or related[-1] not in html[1]:
                self.differ(f"{what}: stands in", "multipart/related with the HTML", "elsewhere")
        if wanted["encoding"]:
            encoding = str(part.get("content-transfer-encoding", "7bit")).lower()
            self.same(f"{what}: encoding", wanted["encoding"], encoding)
        if base64.b64decode(wanted["content"]) != content(part):
            self.differ(f"{what}: content", wanted["content"][:60], base64.b64encode(content(part)).decode()[:60])

    # A message that was given as it is.

    def raw(self, given):
        self.well_formed(False)
        wanted_head, wanted_body = given.split(b"\r\n\r\n", 1)
        head, body = self.bytes.split(b"\r\n\r\n", 1)
        self.same("the body", wanted_body, body)
        found = fields(head)
        for field in fields(wanted_head):
            if field.lower().startswith(b"bcc:"):
                continue
            if field not in found:
                self.differ("a field", field, found)

    def signature(self, wanted):
        """Whether the signature holds, and no longer does where the message is another."""
        names = {f"{wanted['selector']}._domainkey.{wanted['domain']}.": wanted["record"].encode()}

        def look_up(name, timeout=5):
            return names.get(name.decode() if isinstance(name, bytes) else name)

        def holds(message):
            return dkim.verify(message, dnsfunc=look_up, minkey=1024)

        if "dkim-signature" not in self.message:
            self.differ("DKIM-Signature", "there", "missing")
            return
        tags = dict(part.split("=", 1) for part in re.sub(r"\s", "", self.message["dkim-signature"]).split(";") if part)
        self.same("d=", wanted["domain"], tags.get("d"))
        self.same("s=", wanted["selector"], tags.get("s"))
        self.same("l=", None, tags.get("l"))
        signed = tags.get("h", "").lower().split(":")
        for name in (
            "from", "to", "cc", "subject", "date", "message-id", "mime-version", "content-type", "reply-to",
            "in-reply-to", "references", "list-unsubscribe", "list-unsubscribe-post",
        ):
            if name in self.message and name not in signed:
                self.differ("h=", name, signed)
        try:
            self.same("the signature holds", True, holds(self.bytes))
            subject = re.sub(rb"(?im)^subject:", b"Subject: not", self.bytes, count=1)
            self.same("it holds for another subject", False, holds(subject))
            self.same("it holds for another body", False, holds(self.bytes + b"more\r\n"))
            second = b"From: Mallory <mallory@example.net>\r\n" + self.bytes
            self.same("it holds with a second From", False, holds(second))
        except dkim.DKIMException as error:
            self.differ("the signature", "one that can be read", repr(error))


def leaves_of(part, above=()):
    """Each part that holds content, with the multiparts that it stands in, outermost first."""
    if not part.is_multipart() or part.get_content_maintype() == "message":
        yield part, above
        return
    for inner in part.iter_parts():
        yield from leaves_of(inner, (*above, part))


def is_body(part):
    named = part.get_filename() or part["content-id"]
    return not named and part.get_content_disposition() != "attachment"


def find(bodies, kind):
    return next((body for body in bodies if body[0].get_content_type() == kind), None)


def kinds(part):
    return [leaf.get_content_type() for leaf, _ in leaves_of(part)]


def raw_payload(part):
    return part.get_payload().encode("utf-8", "surrogateescape")


def content(part):
    return part.get_payload(decode=True)


def lines_of(text):
    """The lines of a text, whose last line end mail may add or drop."""
    return text.replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n")


def unfolded(value):
    return re.sub(r"\r?\n(?=[ \t])", "", str(value)).strip()


def fields(head):
    return re.split(rb"\r\n(?![ \t])", head)


def ids(values):
    return ["<" + one.strip("<>") + ">" for value in values for one in str(value).split() if one]


def plain(address):
    """An address as it is compared: its domain in A-labels."""
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain.encode('idna').decode()}"


def mailboxes(strings):
    joined = [re.sub(r";(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", ",", one) for one in strings]
    return [(name, plain(address)) for name, address in email.utils.getaddresses(joined) if address]


def judged(case):
    judge = Judge(case)
    if "raw" in case:
        judge.raw(base64.b64decode(case["raw"]))
    else:
        judge.email(case["email"])
    if "dkim" in case:
        judge.signature(case["dkim"])
    return judge.found


def main():
    found = [difference for case in json.load(sys.stdin) for difference in judged(case)]
    for difference in found:
        print(difference)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
