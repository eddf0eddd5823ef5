"""SASRec as RecTools has it: a causal transformer over the history, full softmax.

RecTools reads one sequence a user and cuts it to the newest items; a longer history is
therefore given as several, so that no training event is lost.

Run as `python -m benchmarks.peers.retrieval_sasrec CONTEST OUTCOME [--quick] [--learning SETTING]`.
"""

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pytorch_lightning
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.item_net import IdEmbeddingsItemNet

from benchmarks.peers.sequence_pieces import pieces
from benchmarks.retrieval_contest import Setting, compete_by_files, grid, recalls
from benchmarks.retrieval_data import Task
from models.retrieval.evaluation import Scorer

_READ_AT_ONCE = 512


class SasRec:
    """RecTools' SASRec, looked at every few epochs until it gets worse.

    Args:
        learning: settings of the model but its epochs.
        every: epochs between two looks.
        patience: looks without a better one before a setting is given up.
        max_epochs: the last look.
    """

    def __init__(
        self, learning: Sequence[Setting], every: int, patience: int, max_epochs: int
    ):
        self._learning = learning
        self._every = every
        self._patience = patience
        self._max_epochs = max_epochs

    def narrowed(self, learning: Setting) -> "SasRec":
        """Returns one with a single setting but for its epochs."""
        return SasRec([learning], self._every, self._patience, self._max_epochs)

    def candidates(self, task: Task) -> Iterator[tuple[Setting, Scorer]]:
        for learning in self._learning:
            model, data = _model(learning), _dataset(task, learning["session_max_len"])
            best, best_epochs = -1.0, 0
            for epochs in range(self._every, self._max_epochs + 1, self._every):
                model.fit_partial(data, self._every, self._every)
                scorer = _scorer(task, model)
                yield {"learning": learning, "epochs": epochs}, scorer
                seen = sum(recalls(task, scorer))
                if seen > best:
                    best, best_epochs = seen, epochs
                elif epochs - best_epochs >= self._patience * self._every:
                    break

    def learn(self, task: Task, setting: Setting) -> Scorer:
        model = _model(setting["learning"])
        data = _dataset(task, setting["learning"]["session_max_len"])
        model.fit_partial(data, setting["epochs"], setting["epochs"])
        return _scorer(task, model)


def _model(learning: Setting) -> SASRecModel:
    pytorch_lightning.seed_everything(0)
    return SASRecModel(
        item_net_block_types=(IdEmbeddingsItemNet,),
        use_key_padding_mask=True,
        recommend_torch_device="cpu",
        **learning,
    )


def _dataset(task: Task, length: int) -> Dataset:
    sequence, item, place = pieces(task.train, length)
    table = pd.DataFrame(
        {
            Columns.User: sequence,
            Columns.Item: item,
            Columns.Weight: 1.0,
            Columns.Datetime: pd.to_datetime(place, unit="s"),
        }
    )
    return Dataset.construct(table)


def _scorer(task: Task, model: SASRecModel) -> Scorer:
    """Scores by the dot product of the last place's vector and the items' vectors."""
    network = model.torch_model.eval()
    known = model.data_preparator
    internal = np.full(task.num_items, -1)
    internal[known.get_known_item_ids().astype(np.int64)] = (
        known.get_known_items_sorted_internal_ids()
    )
    length = model.session_max_len
    with torch.no_grad():
        items = network.item_model.get_all_embeddings()

    def scorer(places: np.ndarray) -> np.ndarray:
        chunks = [
            _queries(
                network, items, internal, task, places[start:][:_READ_AT_ONCE], length
            )
            for start in range(0, len(places), _READ_AT_ONCE)
        ]
        scores = np.concatenate(chunks) @ items.numpy().T
        found = scores[:, np.maximum(internal, 0)]
        found[:, internal < 0] = -np.inf  # never met in training
        return found

    return scorer


def _queries(network, items, internal, task: Task, places, length: int) -> np.ndarray:
    batch = np.zeros((len(places), length), np.int64)  # 0 pads
    for row, place in enumerate(places):
        history = internal[task.histories[place]]
        history = history[history >= 0][-length:]
        batch[row, length - len(history) :] = history
    with torch.no_grad():
        encoded = network.encode_sessions({"x": torch.from_numpy(batch)}, items)
    # A history without a known item is padding alone, for which attention has no answer.
    return np.nan_to_num(encoded[:, -1].numpy())


FULL = SasRec(
    grid(
        n_factors=[64],
        n_heads=[2],
        n_blocks=[2],
        session_max_len=[50],
        dropout_rate=[0.2, 0.5],
        lr=[0.001],
        batch_size=[128],
        loss=["softmax"],
    ),
    every=5,
    patience=2,
    max_epochs=100,
)
QUICK = SasRec(
    grid(
        n_factors=[64],
        n_heads=[2],
        n_blocks=[2],
        session_max_len=[50],
        dropout_rate=[0.2],
        lr=[0.001],
        batch_size=[128],
        loss=["softmax"],
    ),
    every=5,
    patience=1,
    max_epochs=10,
)

if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    compete_by_files({False: FULL, True: QUICK})
