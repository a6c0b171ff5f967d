"""What a call to extract may ask for."""

from collections.abc import Sequence

from featcache.backbones import Network
from featcache.backbones.base import VECTOR
from featcache.backbones.pooling import poolings_of
from featcache.commands.extract.plan import ExtractRequest, check_split
from featcache.core.taps import AVG
from featcache.core.text import some
from featcache.dataset.urls import is_gone
from featcache.errors import DatasetError, UsageError

ENGINES = ("auto", "tensorflow", "openvino")
PRECISIONS = ("float32", "int8")
DTYPES = ("float32", "float16")
_CLASS_SCORES = (1000, 1001, 21841, 21843)  # of ImageNet


def check_call(
    request: ExtractRequest, networks: Sequence[Network], max_bad: float
) -> None:
    """Refuses what no call can do, and tells what means nothing in this one.

    Raises:
        DatasetError: The images are gone, or the split is not there.
        UnknownNameError: There is no such pooling.
        UsageError: An option that cannot be.
    """
    check_request(request, max_bad)
    check_split(request, networks)
    check_baselines(request, networks)
    report_class_scores(request, networks)
    _report_missing_masks(request)


def check_request(request: ExtractRequest, max_bad: float) -> None:
    """Refuses what no call can do.

    Raises:
        DatasetError: The images are gone.
        UnknownNameError: There is no such pooling.
        UsageError: An option that cannot be.
    """
    if not 0 <= request.views < 2**16:
        raise UsageError(
            "`views` from 0 to 65535", str(request.views), "0 is the plain view alone."
        )
    if request.views and request.policy.is_identity:
        raise UsageError(
            "a policy that changes the image",
            f"`views={request.views}` with `flip=False`, `brightness=(1, 1)` and "
            "`zoom=(1, 1)`",
            "Every view would equal view 0: allow a change or use `views=0`.",
        )
    for name in ("pooling", "tap_pooling"):
        poolings_of(getattr(request, name), name)
    choices = {"engine": ENGINES, "precision": PRECISIONS, "dtype": DTYPES}
    for name, allowed in choices.items():
        value = getattr(request, name)
        if value not in allowed:
            raise UsageError(
                f"`{name}` {', '.join(allowed)}", repr(value), "Choose one of them."
            )
    if request.batch_size < 1:
        raise UsageError(
            "`batch_size` of 1 or more", str(request.batch_size), "Try 32."
        )
    if not 0 <= max_bad <= 1:
        raise UsageError("`max_bad` from 0 to 1", str(max_bad), "0.05 is 5 %.")
    if is_gone(request.manifest.root):
        raise DatasetError(
            f"the images of {request.manifest.dataset} in {request.manifest.root}",
            "no such folder or archive",
            f"Scan them at their new location: {request.manifest.scan_again()} "
            "(existing features are kept).",
        )


def check_baselines(request: ExtractRequest, networks: Sequence[Network]) -> None:
    """Tells what means nothing for a backbone without a network."""
    plain = [n.name for n in networks if n.is_baseline]
    options = [f"`taps={request.taps!r}`"] if request.taps != "none" else []
    options += [f"`pooling={request.pooling!r}`"] if request.pooling != AVG else []
    if plain and options and len(plain) == len(networks):
        words = [option.partition("=")[0] + "`" for option in options]
        raise UsageError(
            f"a network for {' and '.join(options)}",
            ", ".join(plain),
            f"These have no inner layers: leave {' and '.join(words)} out.",
        )
    options += ["`precision='int8'`"] if request.precision == "int8" else []
    if plain and options:
        request.reporter.message(
            f"{', '.join(options)}: ignored for {', '.join(plain)} (no network)"
        )


def report_class_scores(request: ExtractRequest, networks: Sequence[Network]) -> None:
    """Tells of outputs that look like scores of ImageNet's classes."""
    for network in networks:
        readout = network.readout
        if readout and readout.kind == VECTOR and readout.width in _CLASS_SCORES:
            request.reporter.message(
                f"{network.name} gives {readout.width} numbers, as many as ImageNet "
                "has classes: such scores are poor features. Name an earlier output "
                f'with "output" in {network.name}.json.'
            )


def _report_missing_masks(request: ExtractRequest) -> None:
    region, missing = request.policy.region, request.masks.missing
    if missing:
        request.reporter.message(
            f"{len(missing)} of {len(request.manifest.ok)} images have no mask in "
            f"column {region.mask}, so no row for region {region.kind}: "
            f"{some(missing, 3)}"
        )
