"""Sends mails through aiosmtplib, and prints how many seconds that took.

PORT CONNECTIONS MAILS BODY_FILE: each connection is kept, and sends one mail after the other.
"""

import asyncio
import sys
import time
from email.message import EmailMessage

import aiosmtplib


async def main():
    port, connections, mails, file = sys.argv[-4:]
    with open(file, encoding="utf-8", newline="") as opened:
        text = opened.read()
    numbers = iter(range(int(mails)))

    async def send():
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=int(port), use_tls=False, start_tls=False) as client:
            for _ in numbers:
                mail = EmailMessage()
                mail["From"] = "sender@example.org"
                mail["To"] = "anna@example.org"
                mail["Subject"] = "a mail of the benchmark"
                mail.set_content(text)
                await client.send_message(mail)

    begun = time.monotonic()
    await asyncio.gather(*(send() for _ in range(int(connections))))
    print(time.monotonic() - begun)


asyncio.run(main())
