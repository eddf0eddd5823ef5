"""How a SavedModel's graph gets into a session without holding up those that are asked.

TensorFlow holds Python's lock while it imports a graph, some tenth of a second for a
recommender, and no other thread answers meanwhile. Most of that are functions, of which the
file has several times those that its signatures call: the others are for who loads the model
as Python objects. Those that are called are imported first, a few at a time.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import tensorflow as tf
from tensorflow.core.framework import function_pb2, graph_pb2, node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.saved_model.loader_impl import SavedModelLoader

_AT_A_TIME = 4  # functions: some milliseconds


def load_graph(
    session: tf.compat.v1.Session, directory: Path
) -> meta_graph_pb2.MetaGraphDef:
    """Loads what a server runs of a SavedModel: graph, variables and tables.

    Args:
        session: over the default graph, which is empty.
        directory: holds `saved_model.pb` with the tag `serve`.

    Returns:
        What the file says of the graph, the functions left out.
    """
    tags = [tf.saved_model.SERVING]
    loader = SavedModelLoader(str(directory))
    graph = loader.get_meta_graph_def_from_tags(tags).graph_def
    functions = list(called_functions(graph))
    for start in range(0, len(functions), _AT_A_TIME):
        part = graph_pb2.GraphDef(versions=graph.versions)
        part.library.function.extend(functions[start : start + _AT_A_TIME])
        tf.graph_util.import_graph_def(part, name="")
    del graph.library.function[:]
    return loader.load(session, tags)


def called_functions(graph: graph_pb2.GraphDef) -> Iterator[function_pb2.FunctionDef]:
    """Returns the functions that a graph's nodes call, and those that these call."""
    library = {one.signature.name: one for one in graph.library.function}
    gradients = {one.function_name: one.gradient_func for one in graph.library.gradient}
    found: set[str] = set()
    left = list(_called(graph.node))
    while left:
        name = left.pop()
        if name in library and name not in found:
            found.add(name)
            left += _called(library[name].node_def)
            left += [gradients[name]] if name in gradients else []
    return (one for one in graph.library.function if one.signature.name in found)


def _called(nodes: Iterable[node_def_pb2.NodeDef]) -> Iterator[str]:
    for node in nodes:
        yield node.op  # a function may be called as if it were an op
        for value in node.attr.values():
            if value.WhichOneof("value") == "func":
                yield value.func.name
            for function in value.list.func:
                yield function.name
