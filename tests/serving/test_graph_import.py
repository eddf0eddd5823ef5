"""What is imported of a model is all that its signatures need, and not more."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import saved_model_pb2

from serving.graph_import import called_functions
from serving.saved_model import SavedModel


class Branches(tf.Module):
    """Calls a function through a branch, a loop, and another function; one never."""

    def __init__(self):
        super().__init__()
        self.weight = tf.Variable(3.0)
        self.twice = tf.function(lambda x: 2.0 * x)
        self.unused = tf.function(
            lambda x: x - 1.0, input_signature=[tf.TensorSpec([None], tf.float32)]
        )

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def serve(self, x):
        grown = tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y + 1.0), (0, x))
        chosen = tf.cond(
            tf.reduce_sum(x) > 0,
            lambda: self.twice(grown[1]),
            lambda: self.weight * x,
        )
        return {"y": chosen}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("branches") / "1"
    module = Branches()
    tf.saved_model.save(module, str(folder), {"serving_default": module.serve})
    return folder


@pytest.fixture(scope="module")
def graph(directory):
    raw = (directory / "saved_model.pb").read_bytes()
    return saved_model_pb2.SavedModel.FromString(raw).meta_graphs[0].graph_def


def test_every_branch_answers(directory):
    model = SavedModel(directory)
    for x, y in (([1.0, 2.0], [8.0, 10.0]), ([-1.0, 0.5], [-3.0, 1.5])):
        answer = model.run("serving_default", {"x": np.array(x, np.float32)})
        assert answer["y"].tolist() == y
    model.close()


def check_called(function, graph) -> None:
    found = {one.signature.name for one in function(graph)}
    everything = {one.signature.name for one in graph.library.function}
    unused = {name for name in everything if "lambda" in name} - found
    assert unused  # what only Python asks for stays away
    for kind in ("while_body", "while_cond", "cond_true", "cond_false", "restore"):
        assert any(kind in name for name in found), kind


def test_functions_of_branches_and_loops_are_found(graph):
    check_called(called_functions, graph)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda graph: graph.library.function,
        lambda graph: [
            one
            for one in graph.library.function
            if any(
                value.func.name == one.signature.name
                for node in graph.node
                for value in node.attr.values()
            )
        ],
    ],
    ids=["all of them", "not those that functions call"],
)
def test_check_rejects_too_many_and_too_few(wrong, graph):
    with pytest.raises(AssertionError):
        check_called(wrong, graph)


def test_functions_are_called_by_attribute_list_and_name():
    graph = graph_pb2.GraphDef()
    for name in ("by_attribute", "by_list", "by_name", "gradient", "never"):
        graph.library.function.add().signature.name = name
    graph.library.gradient.add(function_name="by_list", gradient_func="gradient")
    graph.node.add(op="PartitionedCall").attr["f"].func.name = "by_attribute"
    graph.node.add(op="Case").attr["branches"].list.func.add(name="by_list")
    graph.node.add(op="by_name")
    found = [one.signature.name for one in called_functions(graph)]
    assert found == ["by_attribute", "by_list", "by_name", "gradient"]
