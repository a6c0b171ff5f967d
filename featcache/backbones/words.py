"""What a user writes for a network: its name, and options that are its own.

``A.keras:preprocess=caffe,size=224`` is the network of A.keras with these options,
whatever the options of the call are for the others.
"""

import re
from typing import Any

from featcache.core.registry import Registry
from featcache.errors import UsageError

# What a word for an option is called as an argument of `resolve`.
_KEYS: Registry[str] = Registry(
    "option of a network",
    {
        "preprocess": "preprocess",
        "size": "input_size",
        "input_size": "input_size",
        "weights": "weights",
    },
)
_WORDS = re.compile(r"(?P<name>.+?):(?P<options>[a-z_-]+=.*)", re.DOTALL)


def own_options(text: str) -> tuple[str, dict[str, Any]]:
    """A network's name, and the arguments of ``resolve`` that are written behind it.

    Raises:
        UnknownNameError: No such option.
        UsageError: An option that is given twice, or a size that is no number.
    """
    match = _WORDS.fullmatch(text)
    if not match:
        return text, {}
    options: dict[str, Any] = {}
    for word in match["options"].split(","):
        key, _, value = word.partition("=")
        name = _KEYS[key.strip().replace("-", "_")]
        value = value.strip()
        if name in options or not value:
            raise UsageError(
                f"each option of {match['name']} once, as OPTION=VALUE",
                repr(match["options"]),
                "Such as preprocess=caffe,size=224.",
            )
        if name == "input_size" and not (value.isascii() and value.isdigit()):
            raise UsageError("a size in pixels", repr(value), "Such as size=224.")
        options[name] = int(value) if name == "input_size" else value
    return match["name"], options
