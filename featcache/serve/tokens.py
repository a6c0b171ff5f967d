"""Who may ask: a token in a header, or a cookie that a link of one use sets."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

from starlette.datastructures import Headers

from featcache.errors import UsageError

VARIABLE = "FEATCACHE_TOKEN"
_LEAST = 16  # characters of a token of the user's own
_COOKIE = "featcache"


def read_token(file: Path | None) -> str | None:
    """The token of a file, else of the environment; None where there is neither.

    Raises:
        UsageError: The file cannot be read, or the token can be guessed.
    """
    if file is None and not os.environ.get(VARIABLE):
        return None
    where = str(file) if file else f"${VARIABLE}"
    try:
        text = file.read_text("utf-8") if file else os.environ[VARIABLE]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise UsageError(
            f"a readable file for `token_file={where}`", reason, "Check the path."
        ) from error
    token = text.strip()
    if len(token) < _LEAST or not token.isascii() or not token.isprintable():
        raise UsageError(
            f"a token of at least {_LEAST} printable ASCII characters in {where}",
            f"{len(token)} characters",
            "Write one with: openssl rand -hex 32",
        )
    return token


@dataclass
class Door:
    """Lets in who has the token.

    Attributes:
        token: Whoever sends it in the header Authorization is let in; None lets in
            everybody.
        name: Of the cookie. Cookies are not kept apart by port, so it has the port.
        announce: Hears of a new ticket when one was used.
        ticket: Opens the door once, and leaves a cookie.
    """

    token: str | None
    name: str = _COOKIE
    announce: Callable[[str], None] = lambda ticket: None
    ticket: str = field(default_factory=secrets.token_urlsafe)

    @property
    def cookie(self) -> str:
        """What the cookie holds: not the token, from which it is made."""
        key = (self.token or "").encode()
        return hmac.new(key, b"featcache cookie", hashlib.sha256).hexdigest()

    def admits(self, headers: Headers) -> bool:
        """Whether a request has the token or the cookie."""
        if self.token is None:
            return True
        scheme, _, text = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _equal(text.strip(), self.token):
            return True
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        cookie = cookies.get(self.name)
        return cookie is not None and _equal(cookie.value, self.cookie)

    def take(self, ticket: str) -> bool:
        """Whether it is the ticket; then that is used up, and there is a new one."""
        if self.token is None or not _equal(ticket, self.ticket):
            return False
        self.ticket = secrets.token_urlsafe()
        self.announce(self.ticket)
        return True

    @property
    def set_cookie(self) -> str:
        """The header that leaves the cookie; scripts and other sites never see it."""
        return f"{self.name}={self.cookie}; Path=/; HttpOnly; SameSite=Strict"


def _equal(text: str, other: str) -> bool:
    return hmac.compare_digest(text.encode("utf-8", "replace"), other.encode())
