"""The artifact types Tandem adds to TFX's own; each docstring is its on-disk contract.

Besides `*_component.py`, this is the one module of the package that imports TFX.

Facts about an artifact are custom properties: Kubeflow Pipelines knows no typed
properties of types that are not its own.
"""

from tfx.types.artifact import Artifact


class Catalog(Artifact):
    """Every known item, or those of them that may be recommended.

    `items.parquet`: item_id and each declared or extra column of the items table.
    `items.tfrecord.gz`: the same items as tf.Examples of raw features (`item_id`,
    `item_<feature>`), in the same order.
    """

    TYPE_NAME = "tandem.Catalog"


class CandidateSelection(Artifact):
    """`selection.json`: how many items each rule kept from being recommended."""

    TYPE_NAME = "tandem.CandidateSelection"


class Profiles(Artifact):
    """What serving knows of each user after the last ingested event.

    `profiles-<shard>-of-<shards>.parquet`: `schemas.events.profiles_schema`, each user in
    one of them: the declared features and statistics, `history_item_ids` (the latest
    `history_length` items, oldest first) and `seen_item_ids`.
    """

    TYPE_NAME = "tandem.Profiles"


class DeadLetters(Artifact):
    """Records that could not be accepted, none lost.

    `dead_letters-<table>-<file>-<block>.parquet`: `schemas.events.DEAD_LETTERS`, for each
    part of a file that has any.
    """

    TYPE_NAME = "tandem.DeadLetters"


class IngestionSummary(Artifact):
    """`summary.json`: exact counts; read = accepted + duplicates + dead letters."""

    TYPE_NAME = "tandem.IngestionSummary"


class StatisticsComparison(Artifact):
    """How far rows have drifted, and lie from what was served.

    `comparison.json`: for each of `drift` and `skew` that is asked for, what was
    compared with what, the rows of each, and the distance and threshold of each feature.
    """

    TYPE_NAME = "tandem.StatisticsComparison"


class GateReport(Artifact):
    """The answer of one gate.

    `gate.json`: gate, passed, reason (one sentence), checks (name, passed, seen,
    expected). The custom property `blessed` is 1 where the gate passed, else 0, and
    `reason` is the same sentence. The data gate's also holds `data.html`, a page for a
    person.
    """

    TYPE_NAME = "tandem.GateReport"


class ItemIndex(Artifact):
    """Item embeddings ready to be searched.

    `item_ids.json` (a list) and `embeddings-<shard>-of-<shards>.npy` (float32 [items of
    the shard, dim]); the shards one after the other are in the order of the list.
    """

    TYPE_NAME = "tandem.ItemIndex"


class Evaluation(Artifact):
    """`metrics.json`: the figures of one evaluation, baselines and intervals included.

    Of a ranker also `curves.json`: points of the ROC and calibration curves of each model.
    """

    TYPE_NAME = "tandem.Evaluation"


class ReleaseBundle(Artifact):
    """The models of one release before it is pushed.

    `<model>/` holds a SavedModel with warm-up requests for each of `recommender`,
    `recommender_exact`, `retrieval` and `ranking`; `expected.json` holds requests and
    the answers the exporting process gave.
    """

    TYPE_NAME = "tandem.ReleaseBundle"


class Release(Artifact):
    """A pushed release, in TF Serving's layout under the serving root.

    `manifest.json`: release id, models, checksums, figures. `retrieval/` and `ranking/`
    are copies that the next run's gates compare with, `checkpoint/` what a later span
    continues from (`models.retrieval.checkpoint`). Custom properties: `version`, and
    `span`, the span that it was tested on ("" where the log was split by shares).
    """

    TYPE_NAME = "tandem.Release"
