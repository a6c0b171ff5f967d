"""``featcache compare --needed``: how many groups a claim of a run would take."""

from dataclasses import dataclass

from featcache.commands.compare.leaderboard import Leaderboard
from featcache.commands.compare.scored_run import ScoredRun
from featcache.errors import UsageError
from featcache.evaluation import metrics
from featcache.evaluation.external import Needed, sample_sizes
from featcache.evaluation.external.sample_size import HALF_WIDTH, groups_to_detect
from featcache.evaluation.runs import Run


@dataclass(frozen=True, kw_only=True)
class Detection:
    """How many groups would tell a run from another.

    Attributes:
        against: Short id of the other run.
        against_id: Its id.
        metric: The score in which they differ.
        observed: The difference, positive where the run is better.
        groups_for_observed: That show a difference as large as this one in four of
            five studies; None where the runs never differ, or with a single group.
        detect: A difference that is worth knowing.
        groups_for_detect: That show one as large as that.
    """

    against: str
    against_id: str
    metric: str
    observed: float
    groups_for_observed: int | None
    detect: float
    groups_for_detect: int | None


@dataclass(frozen=True, kw_only=True)
class SampleSize:
    """How many groups like those at hand each claim of a run would take.

    Attributes:
        run: Short id of the run.
        run_id: Its id.
        unit: What groups are called: "patients" or "groups".
        groups: There are now.
        images: They have.
        half_width: Half the length of the intervals.
        needed: For an interval of that length, by score.
        detection: To tell the run from another; None where it is the only one.
    """

    run: str
    run_id: str
    unit: str
    groups: int
    images: int
    half_width: float
    needed: dict[str, Needed]
    detection: Detection | None


def sample_size(
    board: Leaderboard,
    run: Run,
    *,
    half_width: float = HALF_WIDTH,
    detect: float = 0.02,
) -> SampleSize:
    """How many groups give intervals of a length, and tell a run from another.

    The other is the run that the leaderboard refers to, or for that one the next.

    Args:
        board: A leaderboard with the run.
        run: The run.
        half_width: Half the length of the intervals of scores from 0 to 1.
        detect: The difference to detect with 80 % power.

    Raises:
        UsageError: A length or difference that is not between 0 and 1, or a run that
            the leaderboard does not rank.
    """
    for name, value in (("half_width", half_width), ("detect", detect)):
        if not 0 < value < 1:
            raise UsageError(f"`{name}` between 0 and 1", f"{value:g}", "Try 0.02.")
    own = [one for one in board.scored if one.run.run_id == run.run_id]
    if not own:
        raise UsageError(
            "`needed` a run that the leaderboard ranks",
            run.run_id,
            "See the runs: featcache compare",
        )
    one = own[0]
    by_patient = "patient" in run.record.split.group_by.lower()
    return SampleSize(
        run=run.short_id,
        run_id=run.run_id,
        unit="patients" if by_patient else "groups",
        groups=one.draws.groups,
        images=len(one.right),
        half_width=half_width,
        needed=sample_sizes(one.part, run.classes, half_width),
        detection=_detection(board, one, detect),
    )


def _detection(board: Leaderboard, run: ScoredRun, detect: float) -> Detection | None:
    others = [one for one in board.scored if one is not run]
    named = [one for one in others if one.run.run_id == board.against]
    if not others:
        return None
    other, metric = (named or others)[0], board.metric
    sign = 1 if metrics.METRICS[metric] else -1
    change = run.draws.scores[metric] - other.draws.scores[metric]
    observed = sign * (run.scores[metric] - other.scores[metric])
    groups = run.draws.basis(metric)
    scale = run.draws.groups / groups  # of all groups, not of the rarest class

    def needed(difference: float) -> int | None:
        if not difference:
            return None
        count = groups_to_detect(change, groups=groups, difference=abs(difference))
        return None if count is None else round(count * scale)

    return Detection(
        against=other.run.short_id,
        against_id=other.run.run_id,
        metric=metric,
        observed=float(observed),
        groups_for_observed=needed(observed),
        detect=detect,
        groups_for_detect=needed(detect),
    )
