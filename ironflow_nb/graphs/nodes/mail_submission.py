"""One mail: written of the options of a node, and handed to a mail server."""

from __future__ import annotations

import mimetypes
import re
import smtplib
from collections.abc import Iterable
from email.errors import MessageError
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, getaddresses, make_msgid
from typing import Any, Final

from ironflow_nb.core.identity import digest_bytes
from ironflow_nb.errors import NodeFailed, NodeTimeout
from ironflow_nb.graphs.grants import Need
from ironflow_nb.graphs.kinds import NodeContext, Options, failure
from ironflow_nb.graphs.language.data import describe
from ironflow_nb.graphs.nodes.files import NodeFiles
from ironflow_nb.graphs.nodes.http_transport import trusted_certificates
from ironflow_nb.triggers.emission import key_of_step

TIMEOUT_S: Final = 30.0
_MOST_ATTACHED: Final = 25_000_000
"""The bytes of all attachments together; few servers take more."""

_ADDRESS: Final = re.compile(r"[^\s@<>,;\"()\[\]\\]+@[\w.-]+")


def send_email(options: Options, context: NodeContext) -> dict[str, Any]:
    """Send the mail of a node and return its output: ``{message_id, accepted, refused}``.

    Raises:
        NodeFailed: it can't be written, or the server does not take it.
        NotGranted: the server is not granted.
    """
    __tracebackhide__ = True
    try:
        message, recipients = _message(options, context)
        content = message.as_bytes(policy=SMTP)
    except (ValueError, TypeError, LookupError, MessageError) as error:
        raise failure(context, f"the message can't be written: {error}") from None
    server = options["server"].lower()
    context.grants.require(Need("servers", server))
    host, _, port = server.rpartition(":")
    limit_s = TIMEOUT_S if context.timeout_s is None else context.timeout_s
    sending = _Submission(context, server)
    try:
        with sending.connected(host.strip("[]"), int(port), options, limit_s, _domain(message)) as smtp:
            refused = sending.submit(smtp, message, recipients, content)
    except (OSError, smtplib.SMTPException) as error:
        raise sending.translated(error, limit_s) from None
    return {
        "message_id": message["Message-ID"], "accepted": [each for each in recipients if each not in refused],
        "refused": refused,
    }  # fmt: skip


def _domain(message: EmailMessage) -> str:
    return _addresses(message["From"])[0].rpartition("@")[2]


def _message(options: Options, context: NodeContext) -> tuple[EmailMessage, list[str]]:
    message = EmailMessage(policy=SMTP)
    message["From"], message["Subject"] = options["from"], options.get("subject", "")
    for name, key in (("To", "to"), ("Cc", "cc"), ("Reply-To", "reply_to")):
        if options.get(key):
            message[name] = ", ".join(_listed(options[key]))
    recipients = [
        each for key in ("to", "cc", "bcc") for given in _listed(options.get(key)) for each in _addresses(given)
    ]
    if not recipients:
        raise ValueError("it has no recipient; give to, cc or bcc")
    message["Date"] = format_datetime(context.now())
    message["Message-ID"] = _message_id(_domain(message))
    for name, value in options.get("headers", {}).items():
        message[name] = value
    if "text" in options or "html" not in options:
        message.set_content(options.get("text", ""))
    if "html" in options:
        if "text" in options:
            message.add_alternative(options["html"], subtype="html")
        else:
            message.set_content(options["html"], subtype="html")
    _attach(message, options.get("attachments", ()), context)
    return message, list(dict.fromkeys(recipients))


def _message_id(domain: str) -> str:
    """Return the id of the message, the same in each attempt, by which its receivers know that it is one."""
    key = key_of_step()
    return make_msgid(domain=domain) if key is None else f"<{digest_bytes(key.encode()).hex()}@{domain}>"


def _listed(given: Any) -> list[str]:
    return [given] if isinstance(given, str) else list(given or ())


def _addresses(written: str) -> list[str]:
    """Return the plain addresses of a text such as ``Ada <ada@example.org>, bob@example.org``.

    Raises:
        ValueError: it is no such text.
    """
    found = [address for _, address in getaddresses([written])]
    if not found or not all(map(_ADDRESS.fullmatch, found)):
        raise ValueError(f"{written[:100]!r} is no address such as ada@example.org")
    return found


def _attach(message: EmailMessage, attachments: Iterable[Any], context: NodeContext) -> None:
    left = _MOST_ATTACHED
    for each in attachments:
        if isinstance(each, str):
            files, name = NodeFiles(context), each.rpartition("/")[2]
            with files.translated_errors("attached", each), files.opened(each) as file:
                content = file.read(left + 1)
        else:
            name, given = each["name"], each["content"]
            if not isinstance(given, str | bytes):
                raise TypeError(f"the content of {name} is {describe(given)}, and not a text or bytes")
            content = given.encode() if isinstance(given, str) else given
        left -= len(content)
        if left < 0:
            raise ValueError(f"the attachments have more than {_MOST_ATTACHED:,} bytes")
        guessed = mimetypes.guess_type(name)[0] if isinstance(each, str) else each.get("type")
        main, _, sub = (guessed or "application/octet-stream").partition("/")
        message.add_attachment(content, maintype=main, subtype=sub or "octet-stream", filename=name)


class _Submission:
    """One message on its way to the server, and how far it has come."""

    def __init__(self, context: NodeContext, server: str) -> None:
        self._context = context
        self._server = server
        self._may_be_sent = False

    def connected(self, host: str, port: int, options: Options, limit_s: float, domain: str) -> smtplib.SMTP:
        """Return the connection, secured and logged in as the options say."""
        tls = options.get("tls", "starttls")
        if tls == "tls":
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(
                host, port, local_hostname=domain, timeout=limit_s, context=trusted_certificates()
            )
        else:
            smtp = smtplib.SMTP(host, port, local_hostname=domain, timeout=limit_s)
        try:
            if tls == "starttls":
                smtp.starttls(context=trusted_certificates())
            if "user" in options:
                smtp.login(options["user"], options.get("password", ""))
        except BaseException:
            smtp.close()
            raise
        return smtp

    def submit(
        self, smtp: smtplib.SMTP, message: EmailMessage, recipients: list[str], content: bytes
    ) -> dict[str, str]:
        """Hand the message over; return the recipients that were refused, if not all were, with the reasons."""
        smtp.ehlo_or_helo_if_needed()
        code, answer = smtp.mail(_addresses(message["From"])[0])
        if code != 250:
            raise smtplib.SMTPSenderRefused(code, answer, message["From"])
        refused: dict[str, tuple[int, bytes]] = {}
        for each in recipients:
            code, answer = smtp.rcpt(each)
            if code not in {250, 251}:
                refused[each] = (code, answer)
        if len(refused) == len(recipients):
            raise smtplib.SMTPRecipientsRefused(refused)
        self._may_be_sent = True
        code, answer = smtp.data(content)
        if code != 250:
            raise smtplib.SMTPDataError(code, answer)
        return {name: f"{code} {answer.decode('utf-8', 'replace')}" for name, (code, answer) in refused.items()}

    def translated(self, error: Exception, limit_s: float) -> NodeFailed:
        """Return the error of the node. What may have been sent is not sent again by a retry."""
        node = self._context.node
        match error:
            case smtplib.SMTPRecipientsRefused(recipients=refused):
                code, answer = next(iter(refused.values()))
                what = f"{self._server} refuses all recipients: {code} {answer.decode('utf-8', 'replace')}"
                return failure(self._context, what, is_retryable=all(400 <= each < 500 for each, _ in refused.values()))
            case smtplib.SMTPResponseException(smtp_code=code, smtp_error=answer):
                text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else str(answer)
                return failure(self._context, f"{self._server} answers {code} {text}", is_retryable=400 <= code < 500)
            case smtplib.SMTPNotSupportedError():
                return failure(self._context, f"{self._server}: {error}; tls: none sends without encryption")
            case _ if isinstance(error, TimeoutError) or "timed out" in str(error):
                message = f"{node}: {self._server} took longer than {limit_s:g} s; raise timeout_s"
                return NodeTimeout(message, node=node, is_retryable=not self._may_be_sent)
            case _:
                is_untrusted = type(error).__name__ == "SSLCertVerificationError"
                is_retryable = not self._may_be_sent and not is_untrusted
                sent = "; it may have taken the message" if self._may_be_sent else ""
                return failure(self._context, f"{self._server}: {error}{sent}", is_retryable=is_retryable)
