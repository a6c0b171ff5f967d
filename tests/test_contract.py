"""The contract: ids that stay, whoever wrote the store, and what is refused."""

import json
from typing import Any

import pytest
from records import make_contract

from featcache import backbones
from featcache.core.io import canonical_json
from featcache.features.contract import Contract, Statistics

MEASURED = {
    "weights_digest": "0" * 64, "quantised": "1" * 64,
    "statistics": {"split": "s", "mean": [1.5, 2.0, 3.25], "std": [1.0, 2.0, 0.5]},
}  # fmt: skip


def test_ids_of_contracts_do_not_change() -> None:
    """They are digests of plain JSON; stores in use were named by these."""
    network = backbones.resolve("densenet121", "random")
    values = Contract.of(network, precision="int8", dtype="float16").to_json()
    assert Contract.from_json(values | MEASURED).contract_id == (
        "3060afd148ec974604e6a950f16d99e2f9736726f89b03216dbf55529f419d1a"
    )
    values = Contract.of(network).to_json() | {"weights_digest": "0" * 64}
    assert Contract.from_json(values).contract_id == (
        "39c3045de97f9827502ba2c1706b8052afba6e316e0493c00f0ac3001fc26409"
    )
    assert Contract.of(backbones.resolve("border"), precision="int8").contract_id == (
        "d86cca615f3baec7cc2bc8ad5a037735607fbc8e39780214b31a14c95e7667a4"
    )


def test_a_contract_of_another_program_keeps_its_id() -> None:
    """What it does not say stays unsaid, and what it says beside is kept."""
    values = {"backbone": "mynet", "input_size": 224, "made_by": "another program"}
    contract = Contract.from_json(values)
    assert contract.to_json() == values
    assert contract.contract_id == (
        "e9e1231947ef65f346cbc850e957bc5265111877b5375aef25a6da3ce1b23d63"
    )


def test_measured_fields_follow_from_the_others() -> None:
    """Without them a contract is that of the options alone."""
    contract = make_contract(**MEASURED)
    assert isinstance(contract.statistics, Statistics)
    assert contract.without_measured == make_contract()
    assert contract.differences(make_contract()) == sorted(MEASURED)
    assert (
        Contract.from_json(json.loads(canonical_json(contract.to_json()))) == contract
    )


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ([], "the contract is not an object|contract is not an object"),
        ({"backbone": "a"}, "no contract.input_size"),
        ({"input_size": 32}, "no contract.backbone"),
        (
            {"backbone": "a", "input_size": "32"},
            "contract.input_size is not an integer",
        ),
        ({"backbone": "a", "input_size": 1e999}, "contract.input_size"),
        (
            {"backbone": "a", "input_size": 32, "statistics": {"split": "s"}},
            "no contract.statistics.mean",
        ),
    ],
)
def test_what_is_no_contract_is_refused(value: Any, names: str) -> None:
    """The error names the field."""
    with pytest.raises(ValueError, match=names):
        Contract.from_json(value)
