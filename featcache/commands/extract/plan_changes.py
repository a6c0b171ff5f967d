"""What may have changed since a plan was made: its images, or its networks."""

from collections.abc import Sequence

from featcache import backbones
from featcache.backbones import Network
from featcache.commands.extract.part_plan import PartPlan
from featcache.commands.extract.plan import contract
from featcache.commands.extract.planned_images import has_images
from featcache.core.text import some
from featcache.dataset.manifest import Manifest
from featcache.errors import ContractError, StoreError


def refuse_other_images(plan: PartPlan, manifest: Manifest) -> None:
    """Refuses to go on with other images than were planned.

    Raises:
        StoreError: They have changed.
    """
    record = plan.record
    if not has_images(manifest, record.images_sha256, record.manifest):
        count = f"{len(manifest.ok)} " if manifest.has_table else ""
        raise StoreError(
            f"the {record.images} images of plan {plan.name}",
            f"{count}images that are not all the same in the manifest of "
            f"{manifest.dataset}",
            "Publish what is computed (featcache extract --publish), and plan the "
            "rest again.",
        )


def refuse_other_networks(
    plan: PartPlan, manifest: Manifest, networks: Sequence[Network]
) -> None:
    """Refuses to go on with other networks than were planned.

    Weights that are not here yet are not refused: they are compared once they are.

    Raises:
        ContractError: A network, its weights or a rule has changed.
    """
    request = plan.record.options.request(manifest)
    for planned, network, reference in zip(
        plan.record.networks, networks, plan.references, strict=True
    ):
        unmeasured = reference.header.contract.without_measured
        changed = contract(request, network).differences(unmeasured)
        if backbones.weights_key(network) not in (None, planned.weights_key):
            changed.append("weights")
        if changed:
            raise ContractError(
                f"{network.text} as in plan {plan.name}",
                f"another {some(changed)}",
                "Restore the file or the version that it was planned with, or "
                "plan again.",
            )
