"""The proof of a network in a file, before it is shown the first image."""

import platform
from dataclasses import replace
from typing import Any

from featcache import backbones
from featcache.backbones import Network
from featcache.backbones.proving import ABSENT, PASSED, check, own_network
from featcache.commands.extract.plan import ExtractRequest, Job, versions
from featcache.core import memo, records
from featcache.features.contract import Contract


def prove(request: ExtractRequest, job: Job) -> None:
    """Checks a network against its canary, once a machine, and notes how that went.

    Networks of the table have none, and need none. Licence and source are noted of all.

    Raises:
        WeightsError: The canary fails, or cannot be checked; says what would help.
    """
    network, notes = job.network, dict(job.header.notes)
    if network.is_baseline:
        return
    notes["origin"] = {"licence": network.licence, "source": network.source}
    if network.file and not network.row:
        notes["canary"] = _state(request, job)
    job.header = replace(job.header, notes=notes)


def _state(request: ExtractRequest, job: Job) -> dict[str, Any]:
    own = own_network(job.network)
    if own is None:
        return {"state": ABSENT}
    identity = _identity(own)
    path = memo.path_of(request.cache / "openvino", "canary-", identity)
    proof = memo.remembered(path, identity)
    if proof is None:
        result = check(job.network, job.model)
        if result.error:
            raise result.error
        proof = {"agreement": vars(result.agreement)}
        memo.remember(path, identity, proof)
    framework = identity["canary"].get("framework", {})
    return {"state": PASSED, "framework": framework, **proof["agreement"]}


def _identity(own: Network) -> dict[str, Any]:
    """All that a proof depends on."""
    assert own.descriptor
    return {
        "contract": Contract.of(own).to_json(),
        "weights": backbones.weights_key(own),
        "canary": records.to_json(own.descriptor.canary),
        "versions": versions(),
        "host": platform.node(),
        "machine": platform.machine(),
    }
