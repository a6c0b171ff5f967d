"""Weights files: where they are, how to get them, and what names their values."""

import contextlib
import hashlib
import http.client
import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from featcache.backbones.base import NONE, RANDOM, Backbone, Network
from featcache.backbones.graphs import files as graph_files
from featcache.core.io import sha256_file
from featcache.core.text import first_line
from featcache.core.tf import tensorflow
from featcache.errors import WeightsError

CONNECT_SECONDS = 5.0  # for a first answer from where weights are published
_REMEMBERED_SECONDS = 10.0
_UNREACHABLE: dict[str, tuple[float, str]] = {}  # hosts: since when, and why


def find_weights(row: Backbone) -> Path | None:
    """Returns the ImageNet weights file if this machine has it.

    Looked for in ``$FEATCACHE_WEIGHTS``, then in Keras' own folder: ``$KERAS_HOME``, or
    the one in the home folder, if there is one. Where Keras
    publishes no checksum (MobileNet, MobileNetV2) any file of the name is taken.

    Raises:
        WeightsError: The file is there, but is not the published one.
    """
    for folder in _weights_folders():
        path = folder / row.file_name
        if path.is_file():
            _check(path, row)
            return path
    return None


def _weights_folders() -> list[Path]:
    own, keras_home = map(os.environ.get, ("FEATCACHE_WEIGHTS", "KERAS_HOME"))
    folders = [Path(own)] if own else []
    if keras_home:
        return [*folders, Path(keras_home, "models")]
    with contextlib.suppress(RuntimeError):  # no home folder
        folders.append(Path.home() / ".keras" / "models")
    return folders


def _check(path: Path, row: Backbone) -> None:
    if not row.checksum:
        return
    kind, published = row.checksum
    with path.open("rb") as file:
        digits = hashlib.file_digest(file, kind).hexdigest()
    if digits != published:
        raise WeightsError(
            f"{kind.upper()} {published} of {path}",
            digits,
            f"Delete the file; it will be downloaded again from {row.url}.",
        )


def fetch_weights(row: Backbone) -> Path:
    """Returns the ImageNet weights file, downloading it through Keras if need be.

    Raises:
        WeightsError: It is not here and cannot be had; names the two ways out.
    """
    path = find_weights(row)
    if path:
        return path
    published = " ".join(row.checksum or ("no published checksum",))
    try:
        _refuse_without_connection(row.url)
        tensorflow()
        import keras

        with _patient_for(30.0), contextlib.redirect_stdout(sys.stderr):
            path = keras.utils.get_file(
                row.file_name,
                row.url,
                cache_subdir="models",
                file_hash=row.md5 or row.sha256 or None,
            )
    except Exception as error:  # Keras raises a bare Exception
        raise WeightsError(
            f"ImageNet weights {row.file_name} ({published})",
            f"no local file, and the download failed ({error})",
            f"Download {row.url} on another machine and save it as {row.file_name} in "
            "~/.keras/models or the folder $FEATCACHE_WEIGHTS; or use "
            "`weights='random'` to try things out.",
        ) from error
    return Path(path)


def _refuse_without_connection(url: str) -> None:
    """Raises OSError within seconds where a download would try for minutes.

    For a while the same is said of its host at once: a call may want many networks.
    """
    host = urllib.parse.urlsplit(url).netloc
    since, reason = _UNREACHABLE.get(host, (0.0, ""))
    if not reason or time.monotonic() - since > _REMEMBERED_SECONDS:
        reason = _unreachable(host, url)
    if reason:
        _UNREACHABLE[host] = time.monotonic(), reason
        raise OSError(reason)


def _unreachable(host: str, url: str) -> str:
    """Why a host gives no answer; empty where it gives one."""
    reasons: list[str] = []

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=CONNECT_SECONDS):
                reasons.append("")
        except urllib.error.HTTPError:
            reasons.append("")  # an answer; what it means is the download's affair
        except TimeoutError:
            reasons.append(too_late)
        except (OSError, ValueError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", error)
            late = isinstance(cause, TimeoutError)
            why = getattr(cause, "strerror", None) or first_line(error)
            reasons.append(too_late if late else f"no connection to {host}: {why}")

    # In a thread, for no timeout applies to the look-up of a name.
    too_late = f"no answer from {host} in {CONNECT_SECONDS:g} s"
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    return reasons[0] if reasons else too_late


@contextlib.contextmanager
def _patient_for(seconds: float) -> Iterator[None]:
    # A firewall that drops packets would otherwise hang the download for ever.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def weights_key(network: Network) -> str | None:
    """Names the weights without building the network.

    Equal keys mean equal weight values, so that what a store holds can be told
    without TensorFlow. None: the file is not here yet.
    """
    if network.is_baseline:
        return NONE
    if network.weights == RANDOM:
        return f"random seed {network.seed}, keras {metadata.version('keras')}"
    if network.file and network.is_graph:
        return f"file sha256 {graph_files.key(network.file)}"
    if network.file:
        return f"file sha256 {sha256_file(network.file)}"
    assert network.row is not None
    path = find_weights(network.row)
    if path is None:
        return None
    kind, digits = network.row.checksum or ("sha256", sha256_file(path))
    return f"file {kind} {digits}"
