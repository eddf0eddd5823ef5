"""Trains the ranker inside TFX's Trainer and saves what the later stages call.

Stops on the eval split, which is later in time than the train split, and keeps the
weights that were best there. The test split is never read here. Killed, it goes on from
the last epoch that was finished.
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import tensorflow as tf

from models.bandit.bayesian_fm_release import (
    PosteriorRecord,
    read_record,
    settings_of,
    write_record,
)
from models.bandit.bayesian_fm_towers import (
    BASE_TOWERS,
    QUERY_VECTOR,
    TowerTransform,
)
from models.feature_space import FeatureSpace
from models.preprocessing import TransformGraph
from models.ranking.labelled_rows import LabelledRows
from models.ranking.one_pass import learn_in_order
from models.ranking.progress import Progress
from models.ranking.ranker import Ranker, Rate, Tensors
from models.ranking.registry import make_ranker, ranker_class
from models.ranking.settings import RankingSettings, Schedule
from models.ranking.trainee import Trainee
from models.retrieval.settings import Optimizer
from models.retrieval.training_items import distinct_items
from models.signatures import QUERY_SIDES, example_spec, transformed_signature
from models.sparse_adamw import SparseAdamW
from models.training_input import transformed_batches
from models.training_log import StepMetrics
from models.weight_average import WeightAverage
from schemas.features import FeatureCatalog, Side

CHECKPOINTS = "checkpoints"  # beside a SavedModel's own folder, while it is trained
BASE_RANKER = "ranking"  # in a base model's folder, the ranker of the release


def run_fn(fn_args) -> None:
    """Trains and saves; called by TFX's Trainer.

    Args:
        fn_args: TFX's `FnArgs`; `custom_config` holds `catalog` (FeatureCatalog) and
            `settings` (RankingSettings), both as JSON, and may hold `checkpoints`, a
            folder that a next attempt finds again; `base_model` may hold a release's
            ranker to learn on from, and this run's towers. Writes a SavedModel to `serving_model_dir`, the
            model's companions beside it, and TensorBoard logs to `model_run_dir`.
    """
    config = fn_args.custom_config
    catalog = FeatureCatalog.model_validate_json(config["catalog"])
    settings = RankingSettings.model_validate_json(config["settings"])
    transform = _with_towers(
        TransformGraph(fn_args.transform_output, catalog), settings, fn_args.base_model
    )
    model_dir = Path(fn_args.serving_model_dir)
    folder = Path(config.get("checkpoints") or model_dir.parent / CHECKPOINTS)
    folder /= _fingerprint(fn_args)
    base = find_base(settings, fn_args.base_model)
    before = None if base is None else read_record(base).trained_through
    train, validation = (
        LabelledRows(files, transform, settings, after=before)
        for files in (fn_args.train_files, fn_args.eval_files)
    )
    model = fit(
        transform.space,
        settings,
        train,
        validation,
        Path(fn_args.model_run_dir),
        items_of(settings, transform, fn_args.train_files),
        folder,
        base=base,
        learns_validation=True,
    )
    module = RankingModule(model, catalog, transform)
    tf.saved_model.save(module, str(model_dir), signatures=module.signatures())
    if model.learns_in_order:
        record = PosteriorRecord(
            settings=settings_of(settings),
            field_rows=model.field_rows,
            trained_through=max(train.newest, validation.newest),
            continued_from=before,
            num_rows=train.num_rows + validation.num_rows,
        )
        write_record(model_dir, record)
    for name, companion in model.companions(catalog, transform).items():
        target = str(model_dir.parent / name)
        tf.saved_model.save(companion, target, signatures=companion.signatures())
    shutil.rmtree(folder)
    with contextlib.suppress(OSError):  # another fit may have its own beside
        folder.parent.rmdir()


def _fingerprint(fn_args) -> str:
    """Names all that a fit depends on: no other one may go on from its checkpoint."""
    config = fn_args.custom_config
    parts = [
        config["catalog"],
        config["settings"],
        fn_args.transform_output,
        *sorted(fn_args.train_files),
        "",
        *sorted(fn_args.eval_files),
        *([fn_args.base_model] if fn_args.base_model else []),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def find_base(settings: RankingSettings, folder: str | None) -> Path | None:
    """Returns the SavedModel to learn on from; None where the model is trained anew."""
    if folder is None or not ranker_class(settings).learns_in_order:
        return None
    base = Path(folder) / BASE_RANKER
    return base if read_record(base) is not None else None


def _with_towers(
    transform: TransformGraph, settings: RankingSettings, folder: str | None
) -> TransformGraph | TowerTransform:
    """Returns the transform, with the towers' vectors where the model reads them.

    Raises:
        ValueError: if there are no towers in the folder.
    """
    if not (
        ranker_class(settings).learns_in_order
        and settings.bayesian_fm.two_tower_features
    ):
        return transform
    towers = Path(folder or "") / BASE_TOWERS
    if folder is None or not towers.is_dir():
        raise ValueError(
            "`ranking.bayesian_fm.two_tower_features` needs the trained towers in "
            f"`base_model`/{BASE_TOWERS}. Received: {folder}; the pipeline's RankingBase "
            "puts them there"
        )
    return TowerTransform(transform, tf.saved_model.load(str(towers)))


def items_of(
    settings: RankingSettings, transform: TransformGraph, files: list[str]
) -> Tensors | None:
    """Returns the features of each item in the files; None if the model reads none."""
    is_read = settings.history_content and ranker_class(settings).reads_items
    if not (is_read and transform.space.item):
        return None
    batches = transformed_batches(files, transform, settings.batch_size)
    return distinct_items(transform.space, batches)


def fit(
    space: FeatureSpace,
    settings: RankingSettings,
    train: LabelledRows,
    validation: LabelledRows,
    logs: Path,
    items: Tensors | None = None,
    checkpoints: Path | None = None,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    base: Path | None = None,
    learns_validation: bool = False,
) -> Ranker:
    """Trains a fresh model and returns it with its best weights.

    Two fits of the same rows and settings give the same weights, on a CPU to the bit;
    and so does one that was killed and goes on.

    Args:
        space: the transformed features.
        settings: of the model and its training.
        train: what is learnt.
        validation: says when to stop.
        logs: receives TensorBoard's files.
        items: as of `make_ranker`.
        checkpoints: what of a killed fit of the same is gone on from, and left; None
            keeps nothing.
        callbacks: further ones.
        base, learns_validation: as of `learn_in_order`, for models that learn so.

    Raises:
        ValueError: if the model should read the towers' vectors, and the space has none.
    """
    if ranker_class(settings).learns_in_order:
        has_vectors = QUERY_VECTOR in space.query_names
        if settings.bayesian_fm.two_tower_features and not has_vectors:
            raise ValueError(
                "`ranking.bayesian_fm.two_tower_features` needs the vectors of trained "
                "towers, which a pipeline's run alone has; leave it out here"
            )
        return learn_in_order(
            space,
            settings,
            train,
            validation,
            logs,
            checkpoints,
            base,
            learns_validation,
        )
    average = None
    if settings.averaged_epochs and train.num_batches:
        average = WeightAverage(settings.averaged_epochs, train.num_batches)
    progress = Progress(settings.patience, settings.seed, checkpoints, average)
    with _precision(settings):
        trainee = compiled(space, settings, train, items)
        first = progress.resume(trainee)
        if not progress.is_over and first < settings.max_epochs:
            trainee.fit(
                train.epochs(first),
                steps_per_epoch=train.num_batches,
                validation_data=validation.in_order(),
                initial_epoch=first,
                epochs=settings.max_epochs,
                callbacks=[
                    *([average] if average else []),  # the others see what it puts in
                    progress,
                    *_boards(logs),
                    *callbacks,
                ],
                verbose=0,
            )
    progress.keep_best(trainee)
    if not settings.mixed_precision:
        return trainee.ranker
    # Served at full precision, as every release before it and beside it is.
    ranker = make_ranker(space, settings, items)
    ranker(next(iter(train.in_order()))[0], training=True)
    ranker.set_weights(trainee.ranker.get_weights())
    return ranker


def compiled(
    space: FeatureSpace,
    settings: RankingSettings,
    train: LabelledRows,
    items: Tensors | None = None,
) -> Trainee:
    """Returns a fresh model in training, with every variable of its and its optimizer's.

    Args:
        space: the transformed features.
        settings: of the model and its training.
        train: what is to be learnt.
        items: as of `make_ranker`.
    """
    tf.keras.utils.set_random_seed(settings.seed)
    ranker = make_ranker(space, settings, items)
    ranker.prepare(train.in_order())
    trainee = Trainee(ranker, settings)
    trainee(next(iter(train.in_order()))[0], training=True)

    def scheduled(rate: float) -> Rate:
        return learning_rate(settings, rate, train.num_batches)

    optimizer = ranker.make_optimizer(scheduled) or _optimizer(settings, scheduled)
    trainee.compile(
        optimizer,
        loss=trainee.loss_of,
        metrics=[
            tf.keras.metrics.AUC(name="auc", from_logits=True),
            # Row by row: Keras's own takes a mean of batches, the last one's whole.
            tf.keras.metrics.MeanMetricWrapper(_log_loss, name="log_loss"),
        ],
    )
    # With float16, Keras has wrapped the optimizer in one that scales the loss.
    inner = getattr(trainee.optimizer, "inner_optimizer", trainee.optimizer)
    inner.build(trainee.trainable_variables)
    return trainee


def _optimizer(
    settings: RankingSettings, scheduled: Callable[[float], Rate]
) -> tf.keras.optimizers.Optimizer:
    rate = scheduled(settings.learning_rate)
    if settings.optimizer is Optimizer.SPARSE_ADAMW:
        return SparseAdamW(rate, settings.weight_decay)
    return tf.keras.optimizers.AdamW(rate, settings.weight_decay)


def _log_loss(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)


def learning_rate(settings: RankingSettings, rate: float, steps_per_epoch: int) -> Rate:
    """Returns a step size, or how it goes with the steps, as `schedule` has it."""
    schedules = tf.keras.optimizers.schedules
    if settings.schedule is Schedule.CONSTANT:
        return rate
    if settings.schedule is Schedule.COSINE:
        return schedules.CosineDecay(rate, settings.max_epochs * steps_per_epoch)
    steps = settings.warmup_steps  # the first step's rate is not 0: it would be lost
    return schedules.PolynomialDecay(rate / steps, steps, rate)


@contextlib.contextmanager
def _precision(settings: RankingSettings) -> Iterator[None]:
    """Lets layers that are made, or built, inside compute in 16 bits if asked to."""
    before = tf.keras.mixed_precision.global_policy()
    if settings.mixed_precision:
        has_gpu = bool(tf.config.list_physical_devices("GPU"))
        kind = "float16" if has_gpu else "bfloat16"
        tf.keras.mixed_precision.set_global_policy(f"mixed_{kind}")
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


def _boards(logs: Path) -> list[tf.keras.callbacks.Callback]:
    return [
        tf.keras.callbacks.TensorBoard(str(logs), histogram_freq=1, write_graph=False),
        StepMetrics(logs / "train"),
    ]


class RankingModule(tf.Module):
    """What is saved: the ranker over transformed tensors and over tf.Examples.

    Function: `score_candidates(query, candidates) -> logits [B, C]` on transformed
    tensors. Signatures, on `examples` (serialized raw tf.Examples, no label):
    `serving_default` gives `scores` [N], the probability of the label, and `logits`
    gives `logits` [N], which still tell apart what rounds to a probability of 1. The
    model's `explanations` are further ones.
    """

    def __init__(
        self,
        model: Ranker,
        catalog: FeatureCatalog,
        transform: TransformGraph,
    ) -> None:
        super().__init__(name="ranking")
        self.model = model  # by this name a next training finds a posterior
        self._transform = transform
        if isinstance(transform, TowerTransform):
            self.towers = transform.towers  # by this name an export knows of them
        space = transform.space
        sides = (*QUERY_SIDES, Side.ITEM)
        self._spec = example_spec(transform.raw_spec, catalog, *sides)
        signature = [
            transformed_signature(space, space.query_names),
            transformed_signature(space, space.candidate_names, rank=2),
        ]
        self.score_candidates = tf.function(
            lambda query, candidates: model.score_candidates(query, candidates),
            input_signature=signature,
        )
        for name, function in model.candidate_functions().items():
            setattr(self, name, tf.function(function, input_signature=signature))

    def signatures(self) -> dict:
        """Returns the signatures, ready for `tf.saved_model.save`."""
        spec = tf.TensorSpec([None], tf.string, "examples")

        def of_rows(function: Callable[[Tensors], Tensors]):
            def served(examples: tf.Tensor) -> Tensors:
                raw = tf.io.parse_example(examples, self._spec)
                return function(self._transform(raw))

            return tf.function(served, input_signature=[spec]).get_concrete_function()

        functions = {
            "serving_default": lambda rows: {"scores": tf.sigmoid(self.model(rows))},
            "logits": lambda rows: {"logits": self.model(rows)},
            **self.model.explanations(),
        }
        return {name: of_rows(function) for name, function in functions.items()}
