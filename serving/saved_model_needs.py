"""What the models of a release need of a server, read out of their files."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from serving.compatibility import (
    CPU_FLAGS,
    SCANN_OPS,
    Compatibility,
    ModelNeeds,
    Signature,
)
from serving.release_layout import (
    MODELS,
    OPTIONAL_MODELS,
    PARTS,
    ReleaseManifest,
    model_dir,
    models_of,
    release_dir,
)

_GRAPH = "saved_model.pb"
_SERVED = "serve"  # tag of the graph that servers load
_INIT_OP = "__saved_model_init_op"
_SCHEMA = Path("transform_graph", "metadata", "schema.pbtxt")


class NoSavedModelError(ValueError):
    """A file that is no SavedModel, or one that no server loads."""


def needs_of_bundle(bundle: Path) -> Compatibility:
    """Returns what a release that is to be pushed needs.

    Args:
        bundle: folder with one SavedModel per model, and the parts.

    Raises:
        NoSavedModelError: naming the model that cannot be read.
    """
    return _needs({name: bundle / name for name in models_of(bundle)}, bundle / PARTS)


def needs_of_release(root: Path, manifest: ReleaseManifest) -> Compatibility:
    """Returns what a pushed release needs, by its files.

    Args:
        root: the serving root.
        manifest: of the release.

    Raises:
        NoSavedModelError: naming the model that cannot be read.
    """
    folders = {
        name: model_dir(root, name, manifest.version)
        for name in (*MODELS, *OPTIONAL_MODELS)
    }
    there = {name: folder for name, folder in folders.items() if folder.is_dir()}
    return _needs(there, release_dir(root, manifest.version) / PARTS)


def needs_of_model(folder: Path) -> ModelNeeds:
    """Returns what one SavedModel needs.

    Raises:
        NoSavedModelError: if there is none, or no graph for servers in it.
    """
    path = folder / _GRAPH
    try:
        model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise NoSavedModelError(f"`{path}` is no SavedModel: {error}") from error
    graphs = [g for g in model.meta_graphs if _SERVED in g.meta_info_def.tags]
    if not graphs:
        tags = [list(graph.meta_info_def.tags) for graph in model.meta_graphs]
        raise NoSavedModelError(
            f"`{path}` should have a graph with the tag `{_SERVED}`. Received: {tags}"
        )
    (graph,) = graphs
    used = _ops_of(graph)
    stock = {op for op in used if is_stock_op(op)}
    versions = graph.graph_def.versions
    return ModelNeeds(
        tensorflow=graph.meta_info_def.tensorflow_version,
        graph_version=versions.producer,
        min_consumer=versions.min_consumer,
        ops=tuple(sorted(stock)),
        custom_ops=tuple(sorted(used - stock)),
        signatures={
            name: Signature(
                inputs=_described(signature.inputs),
                outputs=_described(signature.outputs),
            )
            for name, signature in sorted(graph.signature_def.items())
            if name != _INIT_OP
        },
    )


def is_stock_op(op: str) -> bool:
    """Returns whether TensorFlow itself has an op, whatever libraries were loaded."""
    return hasattr(tf.raw_ops, op) or op.startswith("_")


def _needs(folders: dict[str, Path], parts: Path) -> Compatibility:
    models = {name: needs_of_model(folder) for name, folder in folders.items()}
    has_scann = any(
        op.startswith(SCANN_OPS) for needs in models.values() for op in needs.custom_ops
    )
    schema = parts / _SCHEMA
    return Compatibility(
        models=models,
        cpu_flags={
            library: flags
            for library, flags in CPU_FLAGS.items()
            if library != "scann" or has_scann
        },
        schema_hash=hashlib.sha256(schema.read_bytes()).hexdigest()
        if schema.is_file()
        else None,
    )


def _ops_of(graph: meta_graph_pb2.MetaGraphDef) -> set[str]:
    """Returns the ops of a graph and its functions; calls of those are no ops."""
    library = graph.graph_def.library.function
    own = {function.signature.name for function in library}
    used = _ops(graph.graph_def.node)
    for function in library:
        used |= _ops(function.node_def)
    return used - own


def _ops(nodes: Iterable[node_def_pb2.NodeDef]) -> set[str]:
    return {node.op for node in nodes}


def _described(tensors) -> dict[str, str]:
    return {name: _text(info) for name, info in sorted(tensors.items())}


def _text(info: meta_graph_pb2.TensorInfo) -> str:
    dtype = tf.dtypes.as_dtype(info.dtype).name
    if info.tensor_shape.unknown_rank:
        return f"{dtype} of any shape"
    sizes = (str(dim.size) if dim.size >= 0 else "?" for dim in info.tensor_shape.dim)
    return f"{dtype} [{', '.join(sizes)}]"
