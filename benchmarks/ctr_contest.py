"""How a contestant is tuned and measured: the same for every one of them.

A contestant learns from the rows before validation, once for each of its settings, and may
stop by validation; the setting with the least log loss there is the one whose predictions for
the test rows count. Nobody sees the test's labels before.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.ctr_data import CtrTable
from models.ranking.evaluation import GroupAuc, log_losses

Setting = dict[str, Any]


class Contestant(Protocol):
    """Somebody who can tell how likely labels are."""

    def candidates(self, table: CtrTable) -> Iterator[tuple[Setting, np.ndarray]]:
        """Yields each setting with the probabilities of all rows from validation on."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a contestant came to.

    Attributes:
        probs: [n] of the test rows.
        setting: the chosen one.
        tried: each setting with its AUC and log loss on validation.
        cpu_s: of CPU, for tuning, learning and predicting.
    """

    probs: np.ndarray
    setting: Setting
    tried: list[tuple[Setting, float, float]]
    cpu_s: float

    def save(self, path: Path) -> None:
        """Writes what `load` reads; the file is there only once it is whole."""
        facts = dataclasses.asdict(self)
        probs = facts.pop("probs")
        temporary = path.with_suffix(".tmp.npz")
        np.savez_compressed(temporary, probs=probs, facts=json.dumps(facts))
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Outcome":
        with np.load(path) as arrays:
            return cls(probs=arrays["probs"], **json.loads(str(arrays["facts"])))


def compete(contestant: Contestant, table: CtrTable) -> Outcome:
    """Tunes a contestant on validation and has it predict the test."""
    begin = time.process_time()
    labels = table.labels[table.validation]
    tried: list[tuple[Setting, float, float]] = []
    lowest, best = np.inf, None
    for setting, probs in contestant.candidates(table):
        probs = probs.astype(np.float64)
        on_validation = probs[: len(labels)]
        auc = float(GroupAuc(labels, on_validation)()[0])
        loss = float(log_losses(labels, on_validation).mean())
        print(
            f"    {json.dumps(setting)}: {auc:.4f} {loss:.4f}",
            file=sys.stderr,
            flush=True,
        )
        tried.append((setting, auc, loss))
        if loss < lowest:
            lowest, best = loss, (setting, probs[len(labels) :])
    if best is None:
        raise ValueError("there should be a setting with a log loss that is a number")
    return Outcome(best[1], best[0], tried, time.process_time() - begin)


def compete_by_files(contestants: Mapping[bool, Contestant]) -> None:
    """What a peer's process does: `python -m ... TABLE OUTCOME [--quick]`.

    Args:
        contestants: by whether the run is a quick one.
    """
    table, outcome = (Path(argument) for argument in sys.argv[1:3])
    contestant = contestants["--quick" in sys.argv[3:]]
    compete(contestant, CtrTable.load(table)).save(outcome)
