"""A reader at a queue: blind first, nothing written twice, everything taken back."""

from pathlib import Path

import pytest
from toy_review import IDS, WRONG, add_run
from toys import CLASSES

from featcache.commands.review import Session, StaleError, open_session
from featcache.commands.review import decisions as log
from featcache.commands.review.decisions import ANSWER, FINAL, NOTE, SKIP, UNDO
from featcache.dataset.manifest import Manifest
from featcache.errors import UsageError

COVID, NORMAL, OTHER = CLASSES


@pytest.fixture
def session(chest: Manifest, reports: Path) -> Session:
    """Ann at the three most confident errors."""
    add_run(chest, reports)
    return open_session(chest, reports, reader="ann", queue="errors")


def act(session: Session, event: str, answer: str = "", note: str = "") -> None:
    """Does something with what is on the screen."""
    card = session.card()
    session.act(
        event,
        version=card.version,
        image_id=card.image_id,
        answer=answer,
        note=note,
    )


def test_the_model_is_hidden_until_the_answer(session: Session) -> None:
    """Label, prediction and reason come with the answer, and not before."""
    card = session.card()
    assert (card.state, card.reveal) == ("blinded", None)
    assert (card.image_id, card.done, card.total) == (IDS[6], 0, 3)
    act(session, ANSWER, NORMAL)
    card = session.card()
    assert (card.state, card.image_id) == ("revealed", IDS[6])
    assert card.reveal
    assert card.reveal.label == session.context.label(IDS[6])
    assert card.reveal.probabilities[0][1] == pytest.approx(WRONG[6])
    assert "The best run predicts" in card.reveal.reason
    act(session, FINAL, COVID)
    assert session.card().image_id == IDS[7]
    (before, after) = log.read(session.context.manifest.folder).lines
    assert (before.before, before.after, before.model_shown) == (NORMAL, "", False)
    assert (after.before, after.after, after.model_shown) == (NORMAL, COVID, True)


def test_another_process_goes_on_where_this_one_was(session: Session) -> None:
    """All that a session knows is in the file, even between answer and reveal."""
    act(session, ANSWER, NORMAL)
    again = open_session(
        session.context.manifest,
        session.context.reports.parent,
        reader="ann",
        queue="errors",
    )
    assert again.card() == session.card()


def test_two_windows_write_nothing_twice(session: Session) -> None:
    """What answers a card that is not on the screen any more is refused."""
    card = session.card()
    session.act(ANSWER, version=card.version, image_id=card.image_id, answer=COVID)
    for event in (ANSWER, SKIP, UNDO, NOTE):
        with pytest.raises(StaleError, match="another window"):
            session.act(
                event, version=card.version, image_id=card.image_id, answer=COVID
            )
    assert len(log.read(session.context.manifest.folder).lines) == 1


def test_undo_goes_back_step_by_step(session: Session) -> None:
    """Undo takes back a final answer, then the first; it stays known what was seen."""
    act(session, ANSWER, NORMAL)
    act(session, FINAL, COVID)
    act(session, SKIP)
    assert session.card().done == 2
    act(session, UNDO)
    assert session.card().image_id == IDS[7]
    act(session, UNDO)
    card = session.card()
    assert card.reveal
    assert (card.image_id, card.reveal.before) == (IDS[6], NORMAL)
    act(session, UNDO)
    card = session.card()
    assert card.reveal
    assert (card.state, card.reveal.before, card.can_undo) == ("revealed", "", False)
    act(session, FINAL, OTHER)
    last = log.read(session.context.manifest.folder).lines[-1]
    assert (last.before, last.after, last.model_shown) == ("", OTHER, True)


def test_nothing_to_take_back(session: Session) -> None:
    """Undo at the beginning is refused, and writes nothing."""
    with pytest.raises(UsageError):
        act(session, UNDO)
    assert not log.read(session.context.manifest.folder).lines


def test_a_note_does_not_answer(session: Session) -> None:
    """A remark stays with the image, before and after the answer."""
    act(session, NOTE, note="haze\n=1+1")
    card = session.card()
    assert (card.state, list(card.notes)) == ("blinded", ["haze =1+1"])
    act(session, ANSWER, COVID, note="left")
    assert list(session.card().notes) == ["haze =1+1", "left"]
    act(session, NOTE, note="right")
    card = session.card()
    assert (card.state, card.reveal and card.reveal.before) == ("revealed", COVID)


def test_the_end(session: Session) -> None:
    """A queue that is done says so; its last answer can still be taken back."""
    for _ in range(3):
        act(session, SKIP)
    card = session.card()
    assert (card.state, card.image_id, card.done) == ("finished", None, 3)
    with pytest.raises(UsageError):
        act(session, SKIP)
    act(session, UNDO)
    assert session.card().image_id == IDS[12]


@pytest.mark.parametrize(
    ("event", "answer"),
    [(ANSWER, "flu"), (FINAL, COVID), ("=cmd", COVID), (ANSWER, "")],
)
def test_events_that_a_card_does_not_allow(
    session: Session, event: str, answer: str
) -> None:
    """No unknown class, and no final answer before the first."""
    with pytest.raises(UsageError):
        act(session, event, answer)


def test_an_answer_is_not_skipped(session: Session) -> None:
    """Once answered, an image is not skipped, which would hide the answer."""
    act(session, ANSWER, COVID)
    with pytest.raises(UsageError):
        act(session, SKIP)


def test_readers_do_not_see_each_other(session: Session) -> None:
    """Another reader begins at the beginning, blind."""
    act(session, ANSWER, COVID)
    other = open_session(
        session.context.manifest,
        session.context.reports.parent,
        reader="bob",
        queue="errors",
    )
    assert (other.card().state, other.card().version) == ("blinded", 0)


def test_an_image_is_asked_about_once(session: Session, reports: Path) -> None:
    """What was answered in one queue is done in another."""
    act(session, SKIP)
    chest = session.context.manifest
    other = open_session(chest, reports, reader="ann", queue="random", limit=90)
    assert (other.card().done, other.card().total) == (1, 90)


def test_a_reader_needs_a_name(chest: Manifest, reports: Path) -> None:
    """A name that the file could not hold is refused before anything is asked."""
    with pytest.raises(UsageError, match="reader"):
        open_session(chest, reports, reader="=cmd()", queue="random")
