"""A reader at a queue: what is on the screen, and what an answer does to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

from featcache.commands.review import decisions as log
from featcache.commands.review.base import Item, ReviewContext
from featcache.commands.review.decisions import (
    ANSWER,
    FINAL,
    NOTE,
    SKIP,
    UNDO,
    UNREAD,
    Decision,
    Decisions,
    Reading,
)
from featcache.dataset.manifest import Manifest
from featcache.errors import DatasetError, FeatcacheError, UsageError

BLINDED, REVEALED, FINISHED = "blinded", "revealed", "finished"


def stamp_of(manifest: Manifest) -> tuple[int, ...]:
    """What changes whenever a manifest is written; empty where it is gone."""
    try:
        about = (manifest.folder / "manifest.csv").stat()
    except OSError:
        return ()
    return about.st_ino, about.st_mtime_ns, about.st_size


class StaleError(FeatcacheError):
    """An answer to what is not on the screen any more; nothing was written."""


@dataclass(frozen=True)
class Reveal:
    """What a reader sees once there is an answer.

    Attributes:
        label: The image's label by now.
        path: Its file, as the manifest names it.
        run_id: The run that predicts; None without one.
        probabilities: By class, the most probable first; empty without any.
        reason: Why the image is in the queue.
        before: The answer before all this was shown; "" where there is none any more.
    """

    label: str
    path: str
    run_id: str | None
    probabilities: Sequence[tuple[str, float]]
    reason: str
    before: str


@dataclass(frozen=True)
class Card:
    """What is on the screen.

    Attributes:
        state: "blinded", "revealed" or "finished".
        version: Counts the reader's lines; an answer names the one that it answers.
        image_id: The image; None where all are done.
        done: Images of the queue that are done.
        total: Images of the queue.
        notes: The reader's remarks on the image.
        can_undo: Whether there is something to take back.
        reveal: For "revealed" alone.
    """

    state: str
    version: int
    image_id: str | None
    done: int
    total: int
    notes: Sequence[str]
    can_undo: bool
    reveal: Reveal | None = None


@dataclass(frozen=True, eq=False)
class Session:
    """A reader at a queue. All that it knows is in ``reviews.csv``.

    Attributes:
        context: The dataset with its runs.
        reader: Who answers.
        queue: Its name.
        items: Its images, the first to look at first.
        stamp: Of the manifest when it was read, see `stamp_of`.
    """

    context: ReviewContext
    reader: str
    queue: str
    items: Sequence[Item]
    stamp: tuple[int, ...]

    @property
    def classes(self) -> list[str]:
        """What can be answered."""
        return self.context.manifest.classes

    def card(self) -> Card:
        """What is on the screen now.

        Raises:
            DatasetError: The dataset was scanned again, or answers were applied, since
                the queue was made.
        """
        if stamp_of(self.context.manifest) != self.stamp:
            name = self.context.manifest.dataset
            raise DatasetError(
                f"dataset {name} has changed since this page was opened; all answers "
                "are kept",
                f"Start it again: featcache review --dataset {quote(name)}",
            )
        return self._card(log.read(self.context.manifest.folder))

    def act(
        self,
        event: str,
        *,
        version: int,
        image_id: str | None = None,
        answer: str = "",
        note: str = "",
    ) -> Card:
        """Writes what a reader does, and says what is on the screen then.

        Args:
            event: "answer", "final", "skip", "note" or "undo".
            version: Of the card that is answered.
            image_id: Its image.
            answer: A class, for "answer" and "final".
            note: A remark, which goes with any of them.

        Raises:
            StaleError: The reader has answered elsewhere since.
            UsageError: An event that the card does not allow, or no such class.
            LockedError: Another process holds the file.
            DatasetError: As `card`.
        """
        self.card()
        with log.appending(self.context.manifest.folder) as appender:
            card = self._card(appender.decisions)
            if version != card.version or (event != UNDO and image_id != card.image_id):
                raise StaleError(
                    f"{self.reader} has answered in another window since",
                    "This window now shows what is there.",
                )
            line = self._line(event, card, appender.decisions, answer, note)
            appender.append([line])
        return self.card()

    def _card(self, decisions: Decisions) -> Card:
        readings = decisions.readings(self.reader)
        done = [readings.get(item.image_id, UNREAD).is_done for item in self.items]
        common: dict[str, Any] = {
            "version": len(decisions.of(self.reader)),
            "done": sum(done),
            "total": len(done),
            "can_undo": self._undoable(decisions) is not None,
        }
        if all(done):
            return Card(FINISHED, image_id=None, notes=(), **common)
        item = self.items[done.index(False)]
        reading = readings.get(item.image_id, UNREAD)
        common |= {"image_id": item.image_id, "notes": reading.notes}
        if reading.unblinded:
            return Card(REVEALED, reveal=self._reveal(item, reading), **common)
        return Card(BLINDED, **common)

    def _reveal(self, item: Item, reading: Reading) -> Reveal:
        row = self.context.images.loc[item.image_id]
        p = self.context.predicted(item.image_id)
        best = self.context.best
        return Reveal(
            label=str(row["label"]),
            path=str(row["path"]),
            run_id=best.run_id if best and p else None,
            probabilities=sorted(p.items(), key=lambda pair: -pair[1]),
            reason=item.reason,
            before=reading.before,
        )

    def _line(
        self, event: str, card: Card, decisions: Decisions, answer: str, note: str
    ) -> Decision:
        """The line of an event.

        Raises:
            UsageError: The card does not allow it, or there is no such class.
        """
        last = self._undoable(decisions)
        if event == UNDO and last is not None:
            return self._new(UNDO, last.image_id, decisions, last.before, last.after)
        image, note = card.image_id, log.clean_note(note)
        before = card.reveal.before if card.reveal else ""
        allowed = {
            BLINDED: (ANSWER, SKIP, NOTE),
            # What was answered is not skipped any more.
            REVEALED: (FINAL, NOTE) if before else (FINAL, SKIP, NOTE),
        }.get(card.state, ())
        if image is None or event not in allowed:
            raise UsageError(
                f"one of {', '.join((*allowed, UNDO))}",
                repr(event[:40]),
                "Reload the page.",
            )
        if event in (ANSWER, FINAL) and answer not in self.classes:
            raise UsageError(
                f"one of the classes {', '.join(self.classes)}",
                repr(answer[:40]),
                "Reload the page.",
            )
        if event == SKIP:
            return self._new(SKIP, image, decisions, note=note)
        if event == NOTE:
            return self._new(NOTE, image, decisions, before, note=note)
        if event == ANSWER:
            return self._new(ANSWER, image, decisions, answer, note=note)
        return self._new(FINAL, image, decisions, before, answer, note=note)

    def _new(
        self,
        event: str,
        image_id: str,
        decisions: Decisions,
        before: str = "",
        after: str = "",
        note: str = "",
    ) -> Decision:
        reading = decisions.readings(self.reader).get(image_id, UNREAD)
        return Decision(
            reader=self.reader,
            time=log.now(),
            image_id=image_id,
            queue=self.queue,
            event=event,
            model_shown=reading.unblinded,
            label=self.context.label(image_id),
            before=before,
            after=after,
            note=note,
        )

    def _undoable(self, decisions: Decisions) -> Decision | None:
        """The reader's newest line on an image of the queue that still counts."""
        mine = {item.image_id for item in self.items}
        stack: list[Decision] = []
        for line in decisions.of(self.reader):
            if line.event == UNDO:
                own = [
                    n for n, one in enumerate(stack) if one.image_id == line.image_id
                ]
                stack[slice(own[-1], own[-1] + 1) if own else slice(0, 0)] = []
            elif line.event != NOTE and line.image_id in mine:
                stack.append(line)
        return stack[-1] if stack else None
