"""One request of a webhook: signed, to a public address, within a time, following nothing.

Signature: HMAC-SHA256 with the webhook's secret over `TIMESTAMP.BODY`, in the header `Vitrine-Signature: v1=HEX` beside
`Vitrine-Timestamp` (seconds since 1970). Whoever receives it recomputes it and refuses a timestamp more than five
minutes off, so that a recorded request is of no use later; `Vitrine-Delivery` tells one delivery from another.

A webhook is a way to make this server ask for an address of somebody's choice. So the name is resolved first, every
address it has must be public, and the connection goes to the address that was looked at, not to the name.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from django.utils.translation import gettext as _

from annotation import __version__

REPLAY_SECONDS = 300
TIMEOUT_SECONDS = 8.0
EXCERPT = 500
ANSWER_BYTES = 4096
URL_LENGTH = 500


class AddressError(Exception):
    """The address cannot be a webhook's; the message is fit for the user."""


class Outcome(NamedTuple):
    """What came of one request: a status, or an error in words."""

    status: int | None
    duration_ms: int
    response: str
    error: str

    @property
    def is_taken(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def signature(secret: str, timestamp: int, body: bytes) -> str:
    signed = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1={signed.hexdigest()}"


def is_signed(headers: Mapping[str, str], body: bytes, *, secret: str, now: float) -> bool:
    """What a receiver does: the signature is that of the body, and it was made a moment ago."""
    stamp = headers.get("Vitrine-Timestamp", "")
    if not stamp.isdecimal() or abs(now - int(stamp)) > REPLAY_SECONDS:
        return False
    return hmac.compare_digest(headers.get("Vitrine-Signature", ""), signature(secret, int(stamp), body))


def check_url(url: str, *, allows_inside: bool) -> SplitResult:
    """The parts of a webhook's address; raises AddressError. `allows_inside` lets http and private addresses pass."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise AddressError(_("'%(url)s' is no address.") % {"url": url[:80]}) from error
    if len(url) > URL_LENGTH or not url.isascii() or any(c <= " " for c in url):
        raise AddressError(
            _("An address has at most %(url_length)s plain characters and no spaces.") % {"url_length": URL_LENGTH}
        )
    if parts.scheme != "https" and not (allows_inside and parts.scheme == "http"):
        raise AddressError(_("The address must begin with https://, so that nobody reads or alters it on the way."))
    if not parts.hostname or parts.username is not None or port == 0:
        raise AddressError(_("The address must name a host, and no user or password."))
    return parts


def resolve(host: str, port: int, *, allows_inside: bool) -> str:
    """The IP address to connect to; every address of the host must be public, unless those inside are allowed."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise AddressError(_("The name '%(host)s' leads nowhere.") % {"host": host}) from error
    addresses = [str(entry[4][0]) for entry in found]
    inside = [address for address in addresses if not is_public(address)]
    if inside and not allows_inside:
        raise AddressError(
            _("'%(host)s' is an address inside a private network; webhooks go to public addresses only.")
            % {"host": host}
        )
    return addresses[0]


def is_public(address: str) -> bool:
    """Not private, loopback, link-local, shared, multicast or reserved, nor one of these written as IPv6."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo[1] if parsed.teredo else None)
        if inner is not None:
            return is_public(str(inner))
        if parsed in ipaddress.ip_network("64:ff9b::/96"):
            return is_public(str(ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)))
    return parsed.is_global and not parsed.is_multicast


def post(url: str, headers: Mapping[str, str], body: bytes, *, allows_inside: bool) -> Outcome:
    """Send one request and read the beginning of the answer; whatever goes wrong is in the outcome."""
    started = time.monotonic()
    try:
        parts = check_url(url, allows_inside=allows_inside)
        address = resolve(
            parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80), allows_inside=allows_inside
        )
        status, excerpt = exchange(parts, address, headers, body)
        return Outcome(status, elapsed_ms(started), excerpt, "")
    except AddressError as error:
        return Outcome(None, elapsed_ms(started), "", str(error))
    except TimeoutError:
        return Outcome(None, elapsed_ms(started), "", f"No answer within {TIMEOUT_SECONDS:.0f} seconds.")
    except (OSError, http.client.HTTPException, ValueError) as error:
        if elapsed_ms(started) >= 1000 * TIMEOUT_SECONDS:
            return Outcome(None, elapsed_ms(started), "", f"No answer within {TIMEOUT_SECONDS:.0f} seconds.")
        return Outcome(None, elapsed_ms(started), "", f"No connection: {str(error) or type(error).__name__}"[:300])


def elapsed_ms(started: float) -> int:
    return round(1000 * (time.monotonic() - started))


def exchange(parts: SplitResult, address: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
    """One POST to `address` under the name of the URL; a redirect is an answer like any other."""
    connection = connect(parts, address)
    watch = threading.Timer(TIMEOUT_SECONDS, cut, [connection.sock])  # for a server that sends a byte now and then
    watch.daemon = True
    watch.start()
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = {"Content-Type": "application/json", "User-Agent": f"Vitrine/{__version__}"} | dict(headers)
        connection.request("POST", target, body=body, headers=sent)
        answer = connection.getresponse()
        excerpt = answer.read(ANSWER_BYTES).decode("utf-8", "replace").replace("\x00", "")[:EXCERPT]
        return answer.status, excerpt
    finally:
        watch.cancel()
        connection.close()


def connect(parts: SplitResult, address: str) -> http.client.HTTPConnection:
    """Connected to the address that was looked at; the certificate is checked against the name."""
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    if parts.scheme == "https":  # only the Host header differs: no port where it is the usual one
        connection.default_port = 443
    plain = socket.create_connection((address, port), timeout=TIMEOUT_SECONDS)
    try:
        connection.sock = (
            ssl.create_default_context().wrap_socket(plain, server_hostname=host) if parts.scheme == "https" else plain
        )
    except BaseException:
        plain.close()
        raise
    return connection


def cut(connected: socket.socket) -> None:
    """Ends whatever reads from it; past the TLS layer, which would be torn down under the reader."""
    with suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
