"""What one trial is: a model trained by some settings, judged on the eval split."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf

from models.preprocessing import TransformGraph
from models.ranking import trainer as ranking_trainer
from models.ranking.evaluation import GroupAuc
from models.ranking.labelled_rows import LabelledRows
from models.ranking.ranker import Ranker
from models.ranking.settings import RankingSettings
from models.retrieval import trainer as retrieval_trainer
from models.retrieval.callbacks import EvalRecall
from models.retrieval.settings import RetrievalSettings
from models.tuning.search import Deadline, Objective, OutOfTime, TrialError

LOG_LOSS = Objective("log_loss", is_loss=True)
RECALL = Objective("recall@100", is_loss=False)
OBJECTIVES = {"ranking": LOG_LOSS, "retrieval": RECALL}
LOGS = "logs"
_ROW_LOSSES = "row_losses.npz"
_CHECKPOINTS = "checkpoints"


@dataclasses.dataclass(frozen=True)
class Rows:
    """What every trial learns from and is judged on.

    Attributes:
        transform: the analysed transform.
        train: files of the train split.
        eval: files of the eval split. Nobody here knows where the test split lies.
    """

    transform: TransformGraph
    train: list[str]
    eval: list[str]


def try_ranking(
    settings: RankingSettings, folder: Path, rows: Rows, deadline: Deadline
) -> dict[str, float]:
    """Trains a ranker as the pipeline would; returns the eval split's log loss and AUC.

    Keeps the rows' losses in the folder, for `row_losses`.

    Args:
        settings: of the model and its training.
        folder: an attempt that was stopped in it is gone on with.
        rows: what is learnt, and judged on.
        deadline: stops training behind an epoch.

    Raises:
        TrialError: if the model cannot be made or trained so.
        OutOfTime: if the deadline came first.
    """
    tf.keras.backend.clear_session()
    validation = LabelledRows(rows.eval, rows.transform, settings)
    try:
        model = ranking_trainer.fit(
            rows.transform.space,
            settings,
            LabelledRows(rows.train, rows.transform, settings),
            validation,
            folder / LOGS,
            ranking_trainer.items_of(settings, rows.transform, rows.train),
            folder / _CHECKPOINTS,
            [_StopInTime(deadline)],
        )
    except (ValueError, tf.errors.OpError) as error:
        raise TrialError(_one_line(error)) from error
    users, labels, logits = _answers(model, validation)
    losses = np.logaddexp(0.0, logits) - labels * logits
    np.savez(folder / _ROW_LOSSES, users=users, losses=losses)
    shutil.rmtree(folder / _CHECKPOINTS, ignore_errors=True)  # some fits need none
    auc = float(GroupAuc(labels, logits)().squeeze())
    return {LOG_LOSS.name: float(losses.mean()), "auc": auc}


def try_retrieval(
    settings: RetrievalSettings, folder: Path, rows: Rows, deadline: Deadline
) -> dict[str, float]:
    """Trains the towers on the train split; returns the best recall on the eval split.

    Args:
        settings: of the model and its training.
        folder: receives TensorBoard's files.
        rows: what is learnt, and judged on.
        deadline: is not looked at: nothing is kept of a training that stops.

    Raises:
        TrialError: if the model cannot be made or trained so.
    """
    tf.keras.backend.clear_session()
    transform = rows.transform
    items = retrieval_trainer.items_of(settings, transform, rows.train)
    recall = EvalRecall(settings, transform, items, rows.eval, folder / LOGS)
    try:
        retrieval_trainer.fit(
            settings, transform, rows.train, settings.max_epochs, [recall], items
        )
    except (ValueError, tf.errors.OpError) as error:
        raise TrialError(_one_line(error)) from error
    return {RECALL.name: recall.best, "epochs": recall.best_epoch + 1}


def row_losses(folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the users [n] and the losses [n] of a trial's eval rows, if it kept them.

    A user is the transformed id: those whom the train split does not hold may share one,
    which makes an interval over users no narrower than it should be.
    """
    path = folder / _ROW_LOSSES
    if not path.exists():
        return None
    with np.load(path) as arrays:
        return arrays["users"], arrays["losses"]


def _answers(model: Ranker, rows: LabelledRows) -> tuple[np.ndarray, ...]:
    """Returns users [n], targets [n] and logits [n], in the rows' order."""
    columns: tuple[list, ...] = ([], [], [])
    logits_of = tf.function(lambda features: model(features), reduce_retracing=True)
    for features, targets in rows.in_order():
        batch = (features[model.space.user_id.name], targets, logits_of(features))
        for column, values in zip(columns, batch, strict=True):
            column.append(values.numpy())
    users, targets, logits = (np.concatenate(column) for column in columns)
    return users, targets.astype(np.float64), logits.astype(np.float64)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


class _StopInTime(tf.keras.callbacks.Callback):
    """Stops a fit behind an epoch that is not its last; comes behind its checkpoint."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        is_last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        if self._deadline.is_over and not is_last:
            raise OutOfTime
