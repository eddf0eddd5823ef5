"""Trains the ranker inside TFX's Trainer and saves what the later stages call.

Stops on the eval split, which is later in time than the train split, and keeps the
weights that were best there. The test split is never read here.
"""

from pathlib import Path

import tensorflow as tf

from models.feature_space import FeatureSpace
from models.preprocessing import TransformGraph
from models.ranking.ranker import Ranker, Tensors
from models.ranking.registry import make_ranker
from models.ranking.settings import RankingSettings
from models.signatures import QUERY_SIDES, example_spec, transformed_signature
from models.training_input import transformed_batches
from models.training_log import StepMetrics
from schemas.features import LABEL, FeatureCatalog, Side


def run_fn(fn_args) -> None:
    """Trains and saves; called by TFX's Trainer.

    Args:
        fn_args: TFX's `FnArgs`; `custom_config` holds `catalog` (FeatureCatalog) and
            `settings` (RankingSettings), both as JSON. Writes a SavedModel to
            `serving_model_dir` and TensorBoard logs to `model_run_dir`.
    """
    catalog = FeatureCatalog.model_validate_json(fn_args.custom_config["catalog"])
    settings = RankingSettings.model_validate_json(fn_args.custom_config["settings"])
    transform = TransformGraph(fn_args.transform_output, catalog)
    model = fit(
        transform.space,
        settings,
        labelled_batches(
            fn_args.train_files, transform, settings.batch_size, settings.seed
        ),
        labelled_batches(fn_args.eval_files, transform, settings.batch_size),
        Path(fn_args.model_run_dir),
    )
    module = RankingModule(model, catalog, transform)
    tf.saved_model.save(
        module, fn_args.serving_model_dir, signatures=module.signatures()
    )


def labelled_batches(
    files: list[str],
    transform: TransformGraph,
    batch_size: int,
    shuffle_seed: int | None = None,
) -> tf.data.Dataset:
    """Returns batches of (transformed features, label [B])."""
    batches = transformed_batches(files, transform, batch_size, shuffle_seed)
    return batches.map(lambda features, row: (features, row[LABEL]))


def fit(
    space: FeatureSpace,
    settings: RankingSettings,
    train: tf.data.Dataset,
    validation: tf.data.Dataset,
    logs: Path,
) -> Ranker:
    """Trains a fresh model and returns it with its best weights."""
    tf.keras.utils.set_random_seed(settings.seed)
    model = make_ranker(space, settings)
    model.compile(
        tf.keras.optimizers.Adam(settings.learning_rate),
        loss=tf.keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[
            tf.keras.metrics.AUC(name="auc", from_logits=True),
            tf.keras.metrics.BinaryCrossentropy(name="log_loss", from_logits=True),
        ],
    )
    model.fit(
        train,
        validation_data=validation,
        epochs=settings.max_epochs,
        callbacks=[
            tf.keras.callbacks.EarlyStopping(
                "val_log_loss",
                mode="min",
                patience=settings.patience,
                restore_best_weights=True,
            ),
            tf.keras.callbacks.TensorBoard(
                str(logs), histogram_freq=1, write_graph=False
            ),
            StepMetrics(logs / "train"),
        ],
        verbose=0,
    )
    return model


class RankingModule(tf.Module):
    """What is saved: the ranker over transformed tensors and over tf.Examples.

    Function: `score_candidates(query, candidates) -> logits [B, C]` on transformed
    tensors. Signatures, on `examples` (serialized raw tf.Examples, no label):
    `serving_default` gives `scores` [N], the probability of the label, and `logits`
    gives `logits` [N], which still tell apart what rounds to a probability of 1.
    """

    def __init__(
        self,
        model: Ranker,
        catalog: FeatureCatalog,
        transform: TransformGraph,
    ) -> None:
        super().__init__(name="ranking")
        self._model = model
        self._transform = transform
        space = transform.space
        sides = (*QUERY_SIDES, Side.ITEM)
        self._spec = example_spec(transform.raw_spec, catalog, *sides)
        self.score_candidates = tf.function(
            lambda query, candidates: model.score_candidates(query, candidates),
            input_signature=[
                transformed_signature(space, space.query_names),
                transformed_signature(space, space.candidate_names, rank=2),
            ],
        )

    def signatures(self) -> dict:
        """Returns the signatures, ready for `tf.saved_model.save`."""
        spec = tf.TensorSpec([None], tf.string, "examples")

        def score(examples: tf.Tensor) -> tf.Tensor:
            raw = tf.io.parse_example(examples, self._spec)
            return self._model(self._transform(raw))

        @tf.function(input_signature=[spec])
        def serving_default(examples: tf.Tensor) -> Tensors:
            return {"scores": tf.sigmoid(score(examples))}

        @tf.function(input_signature=[spec])
        def logits(examples: tf.Tensor) -> Tensors:
            return {"logits": score(examples)}

        return {
            "serving_default": serving_default.get_concrete_function(),
            "logits": logits.get_concrete_function(),
        }
