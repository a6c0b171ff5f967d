"""Places of images: a path, or a URL without anything that could be a secret."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from featcache.errors import DatasetError

_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://(.*)", re.DOTALL)
_HERE = frozenset({"file", "local"})
# Of these the text before the @ is no user, but the container.
_CONTAINERS = frozenset({"abfs", "abfss", "az", "adl"})
# What the rows of a table may name, wherever the table itself is.
NETWORK = frozenset({"s3", "s3a", "gs", "gcs", "http", "https", *_CONTAINERS})


@dataclass(frozen=True)
class Url:
    """A file or a folder that fsspec opens.

    Attributes:
        text: Scheme, host or bucket, and path; without user, query and fragment.
        stripped: Whether there was one of these.
    """

    text: str
    stripped: bool = field(default=False, compare=False)

    @classmethod
    def of(cls, text: str) -> "Url":
        """The URL without user, password, query string and fragment.

        Raises:
            DatasetError: It has no host or path, or chains several protocols.
        """
        match = _URL.fullmatch(text)
        scheme, rest = (match[1].lower(), match[2]) if match else ("", "")
        fragment = "#" if scheme in ("http", "https") else ""
        plain = re.split(f"[?{fragment}]", rest, maxsplit=1)[0]
        host, slash, path = plain.partition("/")
        if scheme not in _CONTAINERS:
            host = host.rpartition("@")[2]
        address = f"{host}{slash}{path}".rstrip("/")
        if not address.strip("/") or "::" in address or not scheme:
            raise DatasetError(
                "a URL such as s3://bucket/folder or https://host/metadata.csv",
                f"{scheme}://{address}",
                "Give a single protocol, a host or bucket, and a path.",
            )
        return cls(f"{scheme}://{address}", stripped=host + slash + path != rest)

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, path: str) -> "Url":
        base = self
        while path.startswith("../"):
            base, path = base.parent, path[3:]
        if path.startswith("/"):
            return Url(f"{self.scheme}://{self.host}{path}")
        return Url(f"{base.text}/{path}" if path else base.text)

    @property
    def scheme(self) -> str:
        """The protocol, in lower case."""
        return self.text.partition("://")[0]

    @property
    def host(self) -> str:
        """The host, or the bucket."""
        return self.text.partition("://")[2].partition("/")[0]

    @property
    def name(self) -> str:
        """The last part of the path; without one, the host."""
        return self.text.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """As that of a path."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> "Url":
        """The folder; of a host, itself."""
        return self if self.name == self.host else Url(self.text.rpartition("/")[0])


Location = Path | Url


def is_url(text: str) -> bool:
    """Whether a text is a URL of another place than this machine's files."""
    match = _URL.fullmatch(text)
    return bool(match) and match[1].lower() not in _HERE if match else False


def location(item: "str | os.PathLike[str] | Url") -> Location:
    """A path as it is, or a URL without secrets.

    Raises:
        DatasetError: A URL without a host or a path.
    """
    if isinstance(item, Url):
        return item
    text = os.fspath(item)
    return Url.of(text) if is_url(text) else Path(text)


def absolute(item: "str | os.PathLike[str] | Url") -> Location:
    """Like `location`, and an absolute path.

    Raises:
        DatasetError: A URL without a host or a path.
    """
    place = location(item)
    return place if isinstance(place, Url) else Path(os.path.abspath(place))


def inside(root: Location, path: str) -> Location:
    """Where a file is that a listing names: below its root, or at a URL of its own."""
    return Url.of(path) if is_url(path) else root / path


def is_gone(root: Location) -> bool:
    """Whether a folder or file is no longer here; of a URL that is not asked."""
    return isinstance(root, Path) and not root.exists()


def without_secrets(text: str) -> str:
    """A text whose URLs have neither user nor query."""
    text = re.sub(r"(\w://)[^/\s'\"]*@", r"\1", text)
    return re.sub(r"(\w://[^\s'\"?]*)\?[^\s'\"]*", r"\1", text)
