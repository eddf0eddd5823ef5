"""One SavedModel in memory, run as TF Serving runs it: a session over its graph.

A session and not `tf.saved_model.load`, because each session owns its resources: two
versions of one model hold tables or ScaNN searchers of the same shared name, and in the
eager runtime those would be one object. A session also computes only the outputs asked
for, and calls with less Python in between.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.framework import ops

from models.scann_ops import SCANN_OP_PREFIX, register_scann_ops
from serving.errors import ModelLoadError, invalid_argument
from serving.graph_import import load_graph

_INIT_OP = "__saved_model_init_op"  # listed among the signatures, but is none


class SavedModel:
    """A loaded SavedModel; thread-safe until `close`.

    Attributes:
        signatures: SignatureDef by name, those that can be served.
    """

    def __init__(self, directory: Path):
        """Loads the graph, its variables and its tables.

        Args:
            directory: holds `saved_model.pb` with the tag `serve`.

        Raises:
            ModelLoadError: if it cannot be loaded here.
        """
        self._session, self.signatures = _load(directory)
        self._callables = {
            name: self._session.make_callable(
                [info.name for _, info in sorted(signature.outputs.items())],
                [info.name for _, info in sorted(signature.inputs.items())],
            )
            for name, signature in self.signatures.items()
        }

    def run(
        self,
        signature_name: str,
        inputs: dict[str, np.ndarray],
        outputs: Sequence[str] = (),
    ) -> dict[str, np.ndarray]:
        """Computes the outputs of a signature.

        Args:
            signature_name: one of `signatures`.
            inputs: one array per input, of its dtype.
            outputs: names of the outputs to compute; none means all.

        Returns:
            outputs: array by name; strings are objects holding bytes.

        Raises:
            RequestError: INVALID_ARGUMENT where the graph refuses the values.
        """
        signature = self.signatures[signature_name]
        try:
            if outputs:
                arrays = self._session.run(
                    [signature.outputs[name].name for name in outputs],
                    {signature.inputs[name].name: inputs[name] for name in inputs},
                )
                return dict(zip(outputs, arrays, strict=True))
            arrays = self._callables[signature_name](
                *(inputs[name] for name in sorted(inputs))
            )
            return dict(zip(sorted(signature.outputs), arrays, strict=True))
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            raise invalid_argument(str(error)) from error

    def close(self) -> None:
        """Frees the model's memory; no call may be running."""
        self._callables.clear()
        self._session.close()
        graph = self._session.graph
        del self._session
        # A graph and its operations name each other: without this its memory would stay
        # until Python's collector comes by, which is hours after start-up.
        ops.dismantle_graph(graph)


def _load(
    directory: Path,
) -> tuple[tf.compat.v1.Session, dict[str, meta_graph_pb2.SignatureDef]]:
    graph_file = directory / "saved_model.pb"
    if not graph_file.exists():
        raise ModelLoadError(
            f"`{directory}` should hold saved_model.pb. It does not; a pushed release "
            "has one for each model"
        )
    session = tf.compat.v1.Session(graph=tf.Graph())
    try:
        if SCANN_OP_PREFIX in graph_file.read_bytes():
            register_scann_ops()
        with session.graph.as_default(), _without_deprecation_warnings():
            meta_graph = load_graph(session, directory)
        signatures = {
            name: signature
            for name, signature in meta_graph.signature_def.items()
            if name != _INIT_OP and signature.outputs
        }
        if not signatures:
            raise ModelLoadError("it has no signature to serve")
    except Exception as error:
        session.close()
        ops.dismantle_graph(session.graph)
        raise ModelLoadError(f"`{directory}` could not be loaded: {error}") from error
    return session, signatures


@contextlib.contextmanager
def _without_deprecation_warnings() -> Iterator[None]:
    """Silences TensorFlow's advice against the v1 loader, which is TF Serving's own."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)
