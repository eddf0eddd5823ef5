"""How a contender is tuned and measured: the same for every one of them.

A contender tries its grid on the validation events, learning from what is before them
alone; the setting with the best recall@10 + recall@100 is then learnt afresh from all that
is before the test. Ranks are those of Tandem's own evaluation, whoever gives the scores.
"""

import argparse
import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.retrieval_data import Contest, Task
from models.retrieval.evaluation import Scorer, ranks_of_positives, recall_at

Setting = dict[str, Any]


class Contender(Protocol):
    """Somebody who can rank a catalogue.

    A scorer is called with places in `task.rows` and gives [n, items] scores.
    """

    def candidates(self, task: Task) -> Iterator[tuple[Setting, Scorer]]:
        """Yields each setting of the grid with what it has learnt from the task."""

    def learn(self, task: Task, setting: Setting) -> Scorer:
        """Learns with one setting that `candidates` gave."""


class CostlyContender(Contender, Protocol):
    """A contender whose full grid would take days on a large log."""

    def narrowed(self, learning: Setting) -> Contender:
        """Returns one that tries this alone for the `learning` part of its settings.

        How long to learn, and how to read a history, stays to be tried.
        """


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a contender came to.

    Attributes:
        ranks: [n] of the test events.
        setting: the chosen one.
        tried: number of settings tried on validation.
        validation: recall@10 and recall@100 of the chosen one there; None where nothing
            was chosen.
        seconds: of tuning, learning and ranking.
    """

    ranks: np.ndarray
    setting: Setting
    tried: int
    validation: tuple[float, float] | None
    seconds: float

    def save(self, path: Path) -> None:
        """Writes what `load` reads; the file is there only once it is whole."""
        facts = dataclasses.asdict(self)
        ranks = facts.pop("ranks")
        temporary = path.with_suffix(".tmp.npz")
        np.savez_compressed(temporary, ranks=ranks, facts=json.dumps(facts))
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Outcome":
        with np.load(path) as arrays:
            facts = json.loads(str(arrays["facts"]))
            facts["validation"] = facts["validation"] and tuple(facts["validation"])
            return cls(ranks=arrays["ranks"], **facts)


def ranks(task: Task, scorer: Scorer) -> np.ndarray:
    """Returns [n] ranks of the task's events; see `ranks_of_positives`."""
    places = np.arange(len(task.rows))
    return ranks_of_positives(scorer, places, task.positives, task.histories)


def recalls(task: Task, scorer: Scorer) -> tuple[float, float]:
    """Returns recall@10 and recall@100."""
    found = ranks(task, scorer)
    return float(recall_at(found, 10).mean()), float(recall_at(found, 100).mean())


def compete(contender: Contender, contest: Contest) -> Outcome:
    """Tunes a contender on validation and measures it on the test."""
    begin = time.monotonic()
    best, setting, tried = (-1.0, -1.0), None, 0
    for candidate, scorer in contender.candidates(contest.tuning):
        seen = recalls(contest.tuning, scorer)
        tried += 1
        print(
            f"    {json.dumps(candidate)}: {seen[0]:.4f} {seen[1]:.4f}",
            file=sys.stderr,
            flush=True,
        )
        if sum(seen) > sum(best):
            best, setting = seen, candidate
    if setting is None:
        raise ValueError("the grid should hold at least one setting")
    found = ranks(contest.final, contender.learn(contest.final, setting))
    return Outcome(found, setting, tried, best, time.monotonic() - begin)


def grid(**values: Sequence) -> list[Setting]:
    """Returns every combination of the values."""
    return [
        dict(zip(values, combination, strict=True))
        for combination in itertools.product(*values.values())
    ]


def chosen(setting: Mapping, *names: str) -> Setting:
    """Returns a part of a setting."""
    return {name: setting[name] for name in names}


def compete_by_files(contenders: Mapping[bool, Contender]) -> None:
    """What a peer's process does.

    `python -m ... CONTEST OUTCOME [--quick] [--learning SETTING]`, where a setting, as
    JSON, is what the contender's method `narrowed` takes.

    Args:
        contenders: by whether the run is a quick one.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("contest", type=Path)
    parser.add_argument("outcome", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--learning", type=json.loads)
    arguments = parser.parse_args()
    contender = contenders[arguments.quick]
    if arguments.learning is not None:
        contender = contender.narrowed(arguments.learning)
    compete(contender, Contest.load(arguments.contest)).save(arguments.outcome)
