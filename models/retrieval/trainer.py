"""Trains the two towers inside TFX's Trainer and saves what the later stages call.

The number of epochs is found on the eval split, which is later in time than the train
split; then the model is trained afresh for as many epochs on both, so that the latest
events are not lost to it. Where a release is continued instead, training goes on from
its checkpoint over the rows that are newer. The test split is never read here.
"""

import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from models.preprocessing import TransformGraph
from models.retrieval.callbacks import EvalRecall, FrequencyBoard, TemperatureBoard
from models.retrieval.checkpoint import (
    CHECKPOINT,
    Cost,
    find_checkpoint,
    read_record,
    save_checkpoint,
)
from models.retrieval.distribution import make_strategy, shared_batches
from models.retrieval.settings import Optimizer, RetrievalSettings
from models.retrieval.training_items import ItemPool, collect_items, distinct_items
from models.retrieval.two_tower import Tensors, TwoTower
from models.retrieval.warm_start import read_span_starts, restore
from models.signatures import QUERY_SIDES, example_spec, transformed_signature
from models.sparse_adamw import SparseAdamW
from models.training_input import (
    Batch,
    batches_by_span,
    count_rows,
    row_timestamps,
    transformed_batches,
)
from models.training_log import StepMetrics
from models.weight_average import WeightAverage
from schemas.features import FeatureCatalog, Side


def run_fn(fn_args) -> None:
    """Trains and saves; called by TFX's Trainer.

    Args:
        fn_args: TFX's `FnArgs`; `custom_config` holds `catalog` (FeatureCatalog) and
            `settings` (RetrievalSettings), both as JSON; `base_model` may hold a
            checkpoint to continue from. Writes a SavedModel to `serving_model_dir`, a
            checkpoint beside it, and TensorBoard logs to `model_run_dir`.
    """
    catalog = FeatureCatalog.model_validate_json(fn_args.custom_config["catalog"])
    settings = RetrievalSettings.model_validate_json(fn_args.custom_config["settings"])
    transform = TransformGraph(fn_args.transform_output, catalog)
    logs = Path(fn_args.model_run_dir)
    started = time.monotonic(), time.process_time()
    files = [*fn_args.train_files, *fn_args.eval_files]
    timestamps = row_timestamps(files)
    base = find_checkpoint(fn_args.base_model)
    before = None if base is None else read_record(base).trained_through
    if base is None:
        model = train_anew(
            settings, transform, fn_args.train_files, fn_args.eval_files, logs
        )
    else:
        timestamps = timestamps[timestamps > before]
        starts = read_span_starts(fn_args.base_model)
        model = train_on(base, settings, transform, files, timestamps, starts, logs)
    save_checkpoint(
        Path(fn_args.serving_model_dir).parent / CHECKPOINT,
        model,
        fn_args.transform_output,
        catalog,
        trained_through=int(timestamps.max(initial=before or 0)),
        continued_from=before,
        cost=Cost(
            rows=len(timestamps),
            seconds=time.monotonic() - started[0],
            cpu_seconds=time.process_time() - started[1],
        ),
    )
    module = RetrievalModule(model, catalog, transform)
    tf.saved_model.save(
        module, fn_args.serving_model_dir, signatures=module.signatures()
    )


def train_anew(
    settings: RetrievalSettings,
    transform: TransformGraph,
    train_files: list[str],
    eval_files: list[str],
    logs: Path,
) -> TwoTower:
    """Finds the number of epochs on the eval split, then trains on both splits."""
    epochs = find_num_epochs(settings, transform, train_files, eval_files, logs)
    return fit(
        settings,
        transform,
        [*train_files, *eval_files],
        epochs,
        _watch(logs / "refit", settings),
    )


def train_on(
    base: Path,
    settings: RetrievalSettings,
    transform: TransformGraph,
    files: list[str],
    timestamps: np.ndarray,
    span_starts: list[int],
    logs: Path,
) -> TwoTower:
    """Continues from a checkpoint on the rows that are newer, span by span.

    Args:
        base: the checkpoint's folder.
        settings: as of the checkpoint, but for `warm_start.FREE_SETTINGS`.
        transform: whose vocabularies hold the checkpoint's where they stood.
        files: all rows, those already learnt from included.
        timestamps: of the rows that are newer than the checkpoint.
        span_starts: ms, when the log's spans begin.
        logs: receives TensorBoard's files.
    """
    model = compiled_model(settings, transform, files)
    with make_strategy(settings.replicas).scope():
        _build(model, next(iter(transformed_batches(files, transform, 2))))
        restore(base, model)
    if not len(timestamps):
        return model
    first = int(timestamps.min())
    begins = [first, *sorted(x for x in span_starts if x > first)]
    batches = batches_by_span(
        files,
        transform,
        settings.batch_size * settings.accumulation_steps,
        begins,
        settings.continued_epochs,
        shuffle_seed=settings.seed,
    )
    num_rows = len(timestamps) * settings.continued_epochs
    _fit(model, batches, num_rows, 1, _watch(logs / "continued", settings))
    return model


def _build(model: TwoTower, batch: Batch) -> None:
    """Makes every variable of a model and of its optimizer, and changes none."""
    model.compute_loss(batch)
    model.optimizer.build(model.trainable_variables)


def _watch(
    logs: Path, settings: RetrievalSettings
) -> list[tf.keras.callbacks.Callback]:
    return [
        tf.keras.callbacks.TensorBoard(str(logs)),
        StepMetrics(logs / "train"),
        TemperatureBoard(logs),
        FrequencyBoard(logs, settings.accumulation_steps),
    ]


def _fit(
    model: TwoTower,
    batches: tf.data.Dataset,
    num_rows: int,
    epochs: int,
    callbacks: list[tf.keras.callbacks.Callback],
) -> None:
    size = model.settings.batch_size * model.settings.accumulation_steps
    full, rest = divmod(num_rows, size)
    steps = full + (rest > 0 and model.distribute_strategy.num_replicas_in_sync == 1)
    batches = shared_batches(batches, size, model.distribute_strategy)
    # Of a dataset whose end it does not know, Keras starts one step too many, and the
    # optimizer counts it before the data are missed.
    batches = batches.apply(tf.data.experimental.assert_cardinality(steps))
    for callback in callbacks:
        if isinstance(callback, FrequencyBoard):
            batches = callback.watch(batches)
    if model.settings.averaged_epochs and steps:
        # First, so that what the others measure is what is kept.
        average = WeightAverage(model.settings.averaged_epochs, steps)
        callbacks = [average, *callbacks]
    model.fit(batches, epochs=epochs, callbacks=callbacks, verbose=0)


def find_num_epochs(
    settings: RetrievalSettings,
    transform: TransformGraph,
    train_files: list[str],
    eval_files: list[str],
    logs: Path,
) -> int:
    """Returns after how many epochs recall on the eval split was best."""
    items = items_of(settings, transform, train_files)
    recall = EvalRecall(settings, transform, items, eval_files, logs / "search")
    callbacks = [
        recall,
        tf.keras.callbacks.TensorBoard(str(logs / "search")),
        StepMetrics(logs / "search" / "train"),
    ]
    fit(settings, transform, train_files, settings.max_epochs, callbacks, items)
    return recall.best_epoch + 1


def fit(
    settings: RetrievalSettings,
    transform: TransformGraph,
    files: list[str],
    epochs: int,
    callbacks: list[tf.keras.callbacks.Callback],
    items: Tensors | None = None,
) -> TwoTower:
    """Trains a fresh model.

    Args:
        settings: of the model and its training.
        transform: the analysed transform.
        files: of the rows.
        epochs: passes over them.
        callbacks: of Keras.
        items: what `items_of` returns of the files, where that is known already.

    Raises:
        ValueError: if the files hold fewer rows than two.
    """
    model = compiled_model(settings, transform, files, items)
    batches = transformed_batches(
        files,
        transform,
        settings.batch_size * settings.accumulation_steps,
        shuffle_seed=settings.seed,
    )
    _fit(model, batches, count_rows(files), epochs, callbacks)
    return model


def items_of(
    settings: RetrievalSettings, transform: TransformGraph, files: list[str]
) -> Tensors:
    """Returns the features of each item in the files; reads all of their rows."""
    batches = transformed_batches(files, transform, settings.batch_size)
    return distinct_items(transform.space, batches)


def drawable_items(
    settings: RetrievalSettings, transform: TransformGraph, files: list[str]
) -> ItemPool | None:
    """Returns the items in the files, None where no negatives are drawn from them."""
    if not settings.drawn_negatives:
        return None
    batches = transformed_batches(files, transform, settings.batch_size)
    return collect_items(transform.space, batches)


def compiled_model(
    settings: RetrievalSettings,
    transform: TransformGraph,
    files: list[str],
    items: Tensors | None = None,
) -> TwoTower:
    """Returns an untrained model, the same for the same seed, that knows the items."""
    tf.keras.utils.set_random_seed(settings.seed)
    if not (settings.history_content and transform.space.item):
        items = None  # no tower would read them
    elif items is None:
        items = items_of(settings, transform, files)
    pool = drawable_items(settings, transform, files)
    with make_strategy(settings.replicas).scope():
        model = TwoTower(transform.space, settings, items, pool)
        model.compile(make_optimizer(settings))
    return model


def make_optimizer(settings: RetrievalSettings) -> tf.keras.optimizers.Optimizer:
    """Returns the optimizer that the settings name."""
    if settings.optimizer is Optimizer.SPARSE_ADAMW:
        return SparseAdamW(settings.learning_rate, settings.weight_decay)
    return tf.keras.optimizers.AdamW(settings.learning_rate, settings.weight_decay)


class RetrievalModule(tf.Module):
    """What is saved: the towers over transformed tensors and over tf.Examples.

    Functions: `embed_query(transformed) -> [B, K]` and `embed_candidates(transformed) ->
    [B, K]`. Signatures: `query_examples` and `candidate_examples`, which take `examples`
    (serialized raw tf.Examples) and give `embeddings`.
    """

    def __init__(
        self,
        model: TwoTower,
        catalog: FeatureCatalog,
        transform: TransformGraph,
    ) -> None:
        super().__init__(name="retrieval")
        # Not the model: the optimizer's slots and the estimator would be saved with it,
        # more than twice what is served.
        self._towers = list(model.trainable_variables)
        if model.item_table is not None:
            self._items = model.item_table
        self._catalog = catalog
        self._transform = transform
        space = transform.space
        self.embed_query = tf.function(
            model.embed_query,
            input_signature=[transformed_signature(space, space.query_names)],
        )
        self.embed_candidates = tf.function(
            model.embed_candidates,
            input_signature=[transformed_signature(space, space.candidate_names)],
        )

    def signatures(self) -> dict:
        """Returns the signatures, ready for `tf.saved_model.save`."""

        def embed_examples(sides, embed):
            spec = example_spec(self._transform.raw_spec, self._catalog, *sides)

            @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
            def signature(examples: tf.Tensor) -> Tensors:
                raw = tf.io.parse_example(examples, spec)
                return {"embeddings": embed(self._transform(raw))}

            return signature.get_concrete_function()

        return {
            "query_examples": embed_examples(QUERY_SIDES, self.embed_query),
            "candidate_examples": embed_examples([Side.ITEM], self.embed_candidates),
        }
