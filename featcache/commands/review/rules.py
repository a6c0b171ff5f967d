"""Rules: from the answers of readers to labels."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from featcache.commands.review.decisions import Decisions, unknown_reader
from featcache.errors import UsageError

AGREE, MAJORITY, READER = "agree", "majority", "reader:"


@dataclass(frozen=True)
class Verdict:
    """What a rule makes of the answers to an image.

    Attributes:
        label: The label; None where the rule does not decide.
        why: Why it does not, in words; "" where it does.
        readers: Whose answers counted.
    """

    label: str | None
    why: str
    readers: list[str]


def answers(decisions: Decisions) -> dict[str, dict[str, str]]:
    """By image_id, the answer of each reader that counts: after the reveal, if any."""
    by_image: dict[str, dict[str, str]] = {}
    for reader in decisions.readers:
        for image_id, reading in decisions.readings(reader).items():
            if reading.answer:
                by_image.setdefault(image_id, {})[reader] = reading.answer
    return by_image


def verdicts(rule: str, decisions: Decisions) -> dict[str, Verdict]:
    """What a rule makes of every image that anybody has answered.

    Args:
        rule: "agree" (at least two readers, and all say the same), "majority" (at least
            two, and more than half say the same) or "reader:NAME" (this one).
        decisions: The answers.

    Raises:
        UsageError: No such rule, or no such reader.
    """
    by_image = answers(decisions)
    if rule.startswith(READER):
        name = rule.removeprefix(READER)
        if name not in decisions.readers:
            raise unknown_reader(name, decisions)
        mine = {i: one[name] for i, one in by_image.items() if name in one}
        return {i: Verdict(answer, "", [name]) for i, answer in mine.items()}
    if rule not in (AGREE, MAJORITY):
        raise UsageError(
            f"`rule` to be {AGREE}, {MAJORITY} or {READER}NAME",
            repr(rule[:80]),
            "Choose one.",
        )
    return {image: _verdict(rule, given_by) for image, given_by in by_image.items()}


def _verdict(rule: str, by_reader: Mapping[str, str]) -> Verdict:
    readers = sorted(by_reader)
    if len(readers) < 2:
        return Verdict(None, f"only {readers[0]} has answered", readers)
    (label, votes), *_ = Counter(by_reader.values()).most_common()
    needed = len(readers) if rule == AGREE else len(readers) // 2 + 1
    if votes >= needed:
        return Verdict(label, "", readers)
    texts = [f"{name}: {by_reader[name]}" for name in readers]
    return Verdict(None, "; ".join(texts), readers)
