"""What an exported recommender would have done with the requests of a log.

The `recommender_exact` of a bundle or a release is asked, so that stock TensorFlow is
enough: the index's agreement with it is a gate of its own.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from components.build_index import run_in_batches
from components.policy_log import ShownRows, query_inputs
from components.release_parts import ReleaseParts, parts_of_bundle
from models.bandit.slates import SlateModel
from models.preprocessing import TransformGraph
from models.recommender import EXCLUDE, NOW, NUM_ITEMS, SEED, SLATE
from schemas.features import TIMESTAMP, FeatureCatalog
from serving.release_layout import PARTS, model_dir, release_dir

_MODELS = ("recommender_exact", "ranking")
_REQUESTS_AT_ONCE = 256


class NoPolicyError(ValueError):
    """A release whose policy cannot be asked."""


@dataclasses.dataclass(frozen=True)
class PolicyOnLog:
    """A policy on N logged rows.

    Attributes:
        propensities: [N] its chance of the row's item at the row's place.
        scores: [N] what its ranker says of the row's item, in (0, 1).
        drawn_scores: [N, M] the same of the items that it put there itself, M times.
    """

    propensities: np.ndarray
    scores: np.ndarray
    drawn_scores: np.ndarray


@dataclasses.dataclass(frozen=True)
class ReleasePolicy:
    """The signatures of a release that tell its policy.

    Attributes:
        recommend, propensities: of `recommender_exact`.
        rank: of `ranking`: `examples` -> `scores`.
        raw_spec: how to parse the log's rows.
        catalog: the declared features.
        takes_moments: whether the first two take `now`, and so keep to the windows of the
            moment when a row was logged.
    """

    recommend: Callable
    propensities: Callable
    rank: Callable
    raw_spec: dict
    catalog: FeatureCatalog
    takes_moments: bool = False

    @classmethod
    def load(
        cls, recommender_dir: str, ranking_dir: str, parts: ReleaseParts
    ) -> "ReleasePolicy":
        """Loads a release.

        Raises:
            NoPolicyError: if it was exported by a version of Tandem that did not tell
                propensities.
        """
        signatures = tf.saved_model.load(recommender_dir).signatures
        if "propensities" not in signatures:
            raise NoPolicyError(
                f"{recommender_dir}: should have a signature `propensities`, which tells "
                f"what the policy does. Received: {sorted(signatures)}; export it anew "
                "with this version."
            )
        catalog = parts.settings().catalog
        transform = TransformGraph(parts.transform_uri, catalog)
        rank = tf.saved_model.load(ranking_dir).signatures["serving_default"]
        # Releases of before there were windows have no signature that takes a moment.
        takes_moments = "propensities_at" in signatures
        suffix = "_at" if takes_moments else ""
        return cls(
            signatures[f"recommend{suffix}"],
            signatures[f"propensities{suffix}"],
            rank,
            transform.raw_spec,
            catalog,
            takes_moments,
        )

    @classmethod
    def of_bundle(cls, bundle: Path) -> "ReleasePolicy":
        """Loads what is to become a release."""
        models = (str(bundle / name) for name in _MODELS)
        return cls.load(*models, parts_of_bundle(bundle))

    @classmethod
    def of_version(cls, serving_root: Path, version: int) -> "ReleasePolicy":
        """Loads a release of a serving root.

        Raises:
            NoPolicyError: if it is not there any more, or cannot tell its policy.
        """
        models = [model_dir(serving_root, name, version) for name in _MODELS]
        parts = ReleaseParts(release_dir(serving_root, version) / PARTS)
        for folder in (*models, parts.folder):
            if not folder.is_dir():
                raise NoPolicyError(f"release {version} has no folder {folder}.")
        return cls.load(*map(str, models), parts)

    def on_log(
        self, rows: ShownRows, slates: SlateModel, num_draws: int, seed: int
    ) -> PolicyOnLog:
        """Asks the policy about every row.

        Where places are independent, the log has the chance of an item at a place whatever
        is above it, and often not the rest of the slate. The policy's own chance of that is
        the mean, over slates that it draws, of the chance given their items above: exact
        at the top, and else without bias. Otherwise a slate is given as it was logged.

        Args:
            rows: of the log.
            slates: how places go together.
            num_draws: M, slates that the policy draws for each request.
            seed: of the draws.
        """
        requests = np.arange(len(rows.users))
        if slates is not SlateModel.INDEPENDENT:
            requests = rows.requests
        order = np.argsort(requests, kind="stable")
        starts = np.flatnonzero(np.diff(requests[order], prepend=-1))
        propensities = np.zeros(len(order))
        drawn_scores = np.zeros((len(order), num_draws))
        width = int(rows.positions.max(initial=0)) + 1
        for first in range(0, len(starts), _REQUESTS_AT_ONCE):
            part = starts[first : first + _REQUESTS_AT_ONCE]
            end = starts[first + len(part)] if first + len(part) < len(starts) else None
            inside = order[part[0] : end]
            slate = np.repeat(
                np.arange(len(part)), np.diff([*part, part[0] + len(inside)])
            )
            asked = _Asked(
                self.inputs_of(rows.serialized[order[part]]),
                rows.items[inside],
                slate,
                rows.positions[inside],
                width,
            )
            seeds = seed + (first + np.arange(len(part))) * num_draws
            both = self._asked(asked, slates, num_draws, seeds)
            propensities[inside], drawn_scores[inside] = both
        scores = run_in_batches(self.rank, rows.serialized, "scores")
        return PolicyOnLog(propensities, scores.astype(np.float64), drawn_scores)

    def inputs_of(self, examples: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what `recommend` and `propensities` are to be asked about some rows.

        Args:
            examples: [B] serialized.

        Returns:
            [B, ...] each, by input; what the caller decides, such as `k`, is not among them.
        """
        inputs = query_inputs(examples, self.raw_spec, self.catalog)
        if self.takes_moments:
            spec = {TIMESTAMP: tf.io.FixedLenFeature([], tf.int64)}
            row = tf.io.parse_example(tf.constant(examples, tf.string), spec)
            inputs[NOW] = row[TIMESTAMP].numpy()
        return inputs

    def _asked(
        self, asked: "_Asked", slates: SlateModel, num_draws: int, seeds: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns ([n], [n, M]) of the rows of some requests."""
        place = (asked.slate, asked.positions)
        propensities = np.zeros(len(asked.items))
        drawn_scores = np.zeros((len(asked.items), num_draws))
        for draw in range(num_draws):
            common = asked.tensors(seeds + draw)
            answer = self.recommend(**common)
            drawn_scores[:, draw] = answer["scores"].numpy()[place]
            if slates is SlateModel.INDEPENDENT:
                slate = answer["item_ids"].numpy().astype(object)
            elif draw == 0:
                slate = np.full((len(seeds), asked.width), b"", object)
            else:
                continue
            slate[place] = asked.items
            found = self.propensities(**common, **{SLATE: tf.constant(slate)})
            share = found["propensities"].numpy()[place].astype(np.float64)
            is_mean = slates is SlateModel.INDEPENDENT
            propensities += share / num_draws if is_mean else share
        return np.minimum(propensities, 1.0), drawn_scores


@dataclasses.dataclass(frozen=True)
class _Asked:
    """Some requests and the rows that were logged of them.

    Attributes:
        inputs: of the requests, [B, ...] each.
        items, slate, positions: [n] of the rows; `slate` is the number of the request.
        width: of a slate.
    """

    inputs: dict[str, np.ndarray]
    items: np.ndarray
    slate: np.ndarray
    positions: np.ndarray
    width: int

    def tensors(self, seeds: np.ndarray) -> dict[str, tf.Tensor]:
        """Returns the inputs of `recommend`."""
        nothing = np.zeros((len(seeds), 0), object)
        return {
            **{key: tf.constant(values) for key, values in self.inputs.items()},
            EXCLUDE: tf.constant(nothing, tf.string),
            NUM_ITEMS: tf.constant(self.width, tf.int32),
            SEED: tf.constant(seeds, tf.int64),
        }
