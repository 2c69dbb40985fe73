"""Runs aiosmtpd for a test: STARTTLS and AUTH on the first port; TLS from the first byte, and a limit of 1 MiB, on the
second. Mail that is taken goes on to an SMTP server at the third. It ends when its input ends.

    aiosmtpd_peer.py FOLDER PORT TLS_PORT ONWARD_PORT USER PASSWORD

FOLDER holds cert.pem and key.pem. It says "ready" once it listens.
"""

import asyncio
import smtplib
import ssl
import sys

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

REPLIES = {
    "nobody@example.org": "550 5.1.1 no such user",
    "later@example.org": "450 4.7.1 try later",
}


class Onward:
    """Hands on what was taken, as it is."""

    def __init__(self, port):
        self.port = port

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if address in REPLIES:
            return REPLIES[address]
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(rcpt_options)
        return "250 2.1.5 taken"

    async def handle_DATA(self, server, session, envelope):
        await asyncio.to_thread(self.hand_on, envelope)
        return "250 2.0.0 handed on"

    def hand_on(self, envelope):
        options = ["BODY=8BITMIME"]
        if envelope.smtp_utf8:
            options.append("SMTPUTF8")
        with smtplib.SMTP("127.0.0.1", self.port, timeout=20) as server:
            server.sendmail(envelope.mail_from, envelope.rcpt_tos, envelope.original_content, options)


def main():
    folder, port, tls_port, onward, user, password = sys.argv[1:]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
    wanted = LoginPassword(user.encode(), password.encode())

    def authenticate(server, session, envelope, mechanism, given):
        return AuthResult(success=given == wanted, handled=False)

    handler = Onward(int(onward))
    shared = {"enable_SMTPUTF8": True, "auth_required": True, "authenticator": authenticate}
    starttls = Controller(
        handler, "127.0.0.1", int(port), tls_context=context, require_starttls=True,
        data_size_limit=16 * 1024 * 1024, **shared,
    )
    # AUTH is refused on what aiosmtpd does not count as TLS, which is any socket that had it from the start.
    implicit = Controller(
        handler, "127.0.0.1", int(tls_port), ssl_context=context, auth_require_tls=False,
        data_size_limit=1024 * 1024, **shared,
    )
    for controller in (starttls, implicit):
        controller.start()
    print("ready", flush=True)
    sys.stdin.read()
    for controller in (starttls, implicit):
        controller.stop()


if __name__ == "__main__":
    main()
