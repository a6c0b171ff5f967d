"""Groups of options: frozen dataclasses, whose fields are the words for them anywhere.

The command line, study files and Python name an option alike: by its field. A function
takes a group as an argument whose default is the group's own, and its flat keywords
are those of the function with the fields of its groups in place of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass, replace
from inspect import Parameter, signature
from typing import Any

from featcache.core.registry import Registry


def parameters(function: Callable[..., Any]) -> dict[str, Parameter]:
    """The flat keywords of a function: its arguments, or the fields of their groups.

    A keyword that several groups have, such as ``seed``, is there once. Of a group
    itself they are its fields.
    """
    if isinstance(function, type):
        return dict(signature(function).parameters)
    flat: dict[str, Parameter] = {}
    for name, parameter in signature(function).parameters.items():
        group = parameter.annotation
        fields = signature(group).parameters if _is_group(parameter) else {}
        for key, value in (fields or {name: parameter}).items():
            flat.setdefault(key, value)
    return flat


def arguments(
    function: Callable[..., Any], keywords: Mapping[str, Any]
) -> dict[str, Any]:
    """Turns flat keywords into the arguments of a function: its groups are built.

    A keyword that several groups have goes into each of them. A group that is given
    itself, by the name of its argument, is changed by the flat keywords beside it.

    Raises:
        UnknownNameError: A keyword that the function has not; the nearest are offered.
    """
    own = signature(function).parameters
    table = Registry("keyword", dict.fromkeys([*parameters(function), *own]))
    for keyword in keywords:
        table[keyword]
    built = {}
    for name, parameter in own.items():
        if _is_group(parameter):
            built[name] = _group(parameter, keywords)
        elif name in keywords:
            built[name] = keywords[name]
    return built


def _group(parameter: Parameter, keywords: Mapping[str, Any]) -> Any:
    group, whole = parameter.annotation, keywords.get(parameter.name)
    fields = {
        field: keywords[field]
        for field in signature(group).parameters
        if field in keywords and not isinstance(keywords[field], group)
    }
    return replace(whole, **fields) if isinstance(whole, group) else group(**fields)


def _is_group(parameter: Parameter) -> bool:
    group = parameter.annotation
    return is_dataclass(group) and type(parameter.default) is group
