"""Policies as tables: for whoever has a log with propensities and no release of Tandem's.

The log is one row for each showing: `user_id`, `item_id`, `propensity`, and `label` or
`reward` (either stands for the other); optionally `event_id`, `position`, and `request_id`
or `timestamp`, by which the rows of a slate are known.

Policies are one row for each choice: `policy`, `item_id`, `propensity`; with `position`
the chance at that place; with `event_id` the chance in that row of the log, else the same
in all. What is not listed has chance 0. A policy whose chances sum to 1 gets a reward
model too, the mean reward of item and position in other folds.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from components.evaluate_policy import TargetOf
from components.policy_log import ShownRows, requests_of
from models.bandit.off_policy import Target
from pipeline.config import ConfigError
from schemas.features import (
    EVENT_ID,
    ITEM_ID,
    LABEL,
    POSITION,
    PROPENSITY,
    REQUEST_ID,
    REWARD,
    TIMESTAMP,
    USER_ID,
)

POLICY = "policy"
_TOLERANCE = 1e-3  # of a sum of chances
_PRIOR_STRENGTH = 10.0  # rounds' worth of the overall mean in the mean of an item


@dataclasses.dataclass(frozen=True)
class LogTable:
    """The showings of a table.

    Attributes:
        rows: as everything that evaluates policies reads them.
        keys: [N] a frame with `item_id`, and `event_id` and `position` where it has them.
    """

    rows: ShownRows
    keys: pd.DataFrame


def read_log_table(path: Path) -> LogTable:
    """Reads a log.

    Raises:
        ConfigError: if a column is missing, or holds what cannot be.
    """
    frame = _read(path, (USER_ID, ITEM_ID, PROPENSITY))
    earned = [key for key in (LABEL, REWARD) if key in frame]
    if not earned:
        raise ConfigError(
            f"{path}: should have a column `{LABEL}` or `{REWARD}`. Received: "
            f"{list(frame.columns)}"
        )
    shown = frame[frame[PROPENSITY].notna()].reset_index(drop=True)
    for key in (PROPENSITY, *earned):
        shown[key] = _numbers(shown[key], path, key)
    outside = shown.index[(shown[PROPENSITY] <= 0) | (shown[PROPENSITY] > 1)]
    if len(outside):
        raise ConfigError(
            f"{path}: `{PROPENSITY}` should be in (0, 1]. Received: "
            f"{shown[PROPENSITY][outside[0]]} for item "
            f"{shown[ITEM_ID][outside[0]]!r}, and {len(outside) - 1} others"
        )
    positions = np.zeros(len(shown), np.int64)
    if POSITION in shown:
        positions = _numbers(shown[POSITION], path, POSITION).astype(np.int64)
    users = shown[USER_ID].astype(str).to_numpy(object)
    ids = None
    if REQUEST_ID in shown:
        ids = shown[REQUEST_ID].fillna("").astype(str).to_numpy(object)
    moments = np.arange(len(shown))
    if TIMESTAMP in shown:
        moments = pd.factorize(shown[TIMESTAMP])[0]
    requests = requests_of(users, moments, ids)
    rows = ShownRows(
        users,
        shown[ITEM_ID].astype(str).to_numpy(object),
        shown[earned[0]].to_numpy(np.float64),
        shown[earned[-1]].to_numpy(np.float64),
        shown[PROPENSITY].to_numpy(np.float64),
        positions,
        requests,
        np.zeros(0, object),
        len(frame) - len(shown),
    )
    kept = [key for key in (EVENT_ID, ITEM_ID, POSITION) if key in shown]
    return LogTable(rows, shown[kept].assign(**{ITEM_ID: shown[ITEM_ID].astype(str)}))


def read_policy_table(path: Path, log: LogTable) -> dict[str, TargetOf]:
    """Reads policies on a log, by name in the order of the table.

    Raises:
        ConfigError: if a column is missing, a chance out of range, or one is given twice.
    """
    frame = _read(path, (POLICY, ITEM_ID, PROPENSITY))
    frame[PROPENSITY] = _numbers(frame[PROPENSITY], path, PROPENSITY)
    frame[ITEM_ID] = frame[ITEM_ID].astype(str)
    outside = frame.index[(frame[PROPENSITY] < 0) | (frame[PROPENSITY] > 1 + 1e-6)]
    if len(outside):
        raise ConfigError(
            f"{path}: `{PROPENSITY}` should be in [0, 1]. Received: "
            f"{frame[PROPENSITY][outside[0]]} in row {outside[0] + 1}"
        )
    keys = [key for key in (EVENT_ID, ITEM_ID, POSITION) if key in frame]
    for key in keys:
        if key not in log.keys:
            raise ConfigError(
                f"{path}: has a column `{key}`, which the log should have too. Received: "
                f"a log with {list(log.keys.columns)}"
            )
    twice = frame.duplicated([POLICY, *keys])
    if twice.any():
        row = frame[twice].iloc[0]
        raise ConfigError(
            f"{path}: should have each of {keys} once for a policy. Received twice: "
            f"{[row[key] for key in (POLICY, *keys)]}"
        )
    return {
        str(name): _target_of(log, part, keys)
        for name, part in frame.groupby(POLICY, sort=False)
    }


def _target_of(log: LogTable, table: pd.DataFrame, keys: list[str]) -> TargetOf:
    """Returns a policy on the log."""
    joined = log.keys.merge(table[[*keys, PROPENSITY]], how="left", on=keys)
    propensities = joined[PROPENSITY].fillna(0.0).to_numpy(np.float64)
    within = [key for key in keys if key != ITEM_ID]
    if within:
        sums = table.groupby(within)[PROPENSITY].sum()
        rounds = log.keys[within].merge(
            sums.rename("mass"), how="left", left_on=within, right_index=True
        )
        is_whole = bool((abs(rounds["mass"] - 1) <= _TOLERANCE).all())
    else:
        is_whole = abs(table[PROPENSITY].sum() - 1) <= _TOLERANCE

    def target(rewards: np.ndarray, folds: np.ndarray | None) -> Target:
        if folds is None or not is_whole:
            return Target(propensities)
        return Target(propensities, *_modelled(log, table, within, rewards, folds))

    return target


def _modelled(
    log: LogTable,
    table: pd.DataFrame,
    within: list[str],
    rewards: np.ndarray,
    folds: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (q_logged, q_target), [N] each, of means by item and position."""
    cell = [ITEM_ID] + ([POSITION] if POSITION in log.keys else [])
    logged, target = np.zeros(len(rewards)), np.zeros(len(rewards))
    places = log.keys[[POSITION]].drop_duplicates() if POSITION in log.keys else None
    choices = table
    if places is not None and POSITION not in table:
        choices = table.merge(places, how="cross")
    within = [*within] if POSITION in within or places is None else [*within, POSITION]
    for fold in np.unique(folds):
        fitted, inside = folds != fold, folds == fold
        mean = float(rewards[fitted].mean())
        groups = log.keys[fitted].assign(earned=rewards[fitted]).groupby(cell)["earned"]
        q = (groups.sum() + _PRIOR_STRENGTH * mean) / (groups.size() + _PRIOR_STRENGTH)
        q = q.rename("q")

        def predicted(frame: pd.DataFrame, q=q, mean=mean) -> np.ndarray:
            found = frame[cell].merge(q, how="left", left_on=cell, right_index=True)
            return found["q"].fillna(mean).to_numpy()

        logged[inside] = predicted(log.keys[inside])
        shares = choices.assign(value=choices[PROPENSITY] * predicted(choices))
        if not within:
            target[inside] = shares["value"].sum()
            continue
        sums = shares.groupby(within)["value"].sum()
        of_rounds = log.keys.loc[inside, within].merge(
            sums, how="left", left_on=within, right_index=True
        )
        target[inside] = of_rounds["value"].to_numpy()
    return logged, target


def _read(path: Path, needed: tuple[str, ...]) -> pd.DataFrame:
    """Reads a Parquet or CSV table that has some columns."""
    try:
        read = pq.read_table if path.suffix == ".parquet" else csv.read_csv
        table = read(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigError(
            f"{path}: should be a table, .parquet or .csv. Received: {error}"
        ) from error
    missing = [key for key in needed if key not in table.column_names]
    if missing:
        raise ConfigError(
            f"{path}: should have the columns {list(needed)}. Received "
            f"{table.column_names}, without {missing}"
        )
    if not table.num_rows:
        raise ConfigError(f"{path}: should have at least one row. Received: none")
    return table.to_pandas()


def _numbers(column: pd.Series, path: Path, key: str) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.isna().any():
        odd = column[numbers.isna()].iloc[0]
        raise ConfigError(f"{path}: `{key}` should hold numbers. Received: {odd!r}")
    return numbers
