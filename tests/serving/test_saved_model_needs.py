"""What a SavedModel needs of a server, read out of the file."""

import pytest
import tensorflow as tf

from serving.compatibility import Signature
from serving.release_layout import PARTS
from serving.saved_model_needs import (
    NoSavedModelError,
    is_stock_op,
    needs_of_bundle,
    needs_of_model,
)


def test_signatures_and_versions_of_a_toy(good_bundle):
    needs = needs_of_model(good_bundle / "recommender")
    assert set(needs.signatures) == {"recommend", "serving_default"}
    default = needs.signatures["serving_default"]
    assert default == Signature(
        inputs={
            "context_tags": "string [?, ?]",
            "history_item_ids": "string [?, ?]",
            "user_age": "float32 [?]",
            "user_id": "string [?]",
        },
        outputs=default.outputs,
    )
    assert needs.signatures["recommend"].inputs["k"] == "int32 []"
    assert needs.tensorflow == tf.__version__
    assert needs.graph_version == tf.version.GRAPH_DEF_VERSION
    assert needs.custom_ops == ()


def test_ops_of_functions_within_functions_count_and_calls_do_not(tmp_path):
    class Deep(tf.Module):
        @tf.function
        def inner(self, x):
            return tf.math.erfinv(x)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def outer(self, x):
            (y,) = tf.while_loop(lambda x: tf.reduce_any(x > 1), self.inner, [x])
            return {"y": y}

    deep = Deep()
    tf.saved_model.save(deep, str(tmp_path), signatures={"f": deep.outer})
    needs = needs_of_model(tmp_path)
    assert {"Erfinv", "Greater", "Any"} <= set(needs.ops)
    assert not [op for op in needs.ops if op.startswith("__inference")]


def test_stock_ops_are_tensorflows_own():
    assert is_stock_op("MatMul")
    assert not is_stock_op("Scann>ScannSearchBatched")


def test_a_release_states_its_schema(good_bundle, tmp_path):
    assert needs_of_bundle(good_bundle).schema_hash is None
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for model in good_bundle.iterdir():
        if model.is_dir():
            (bundle / model.name).symlink_to(model)
    schema = bundle / PARTS / "transform_graph" / "metadata" / "schema.pbtxt"
    schema.parent.mkdir(parents=True)
    schema.write_text("abc")
    needs = needs_of_bundle(bundle)
    # printf abc | sha256sum
    assert needs.schema_hash == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    assert set(needs.models) == {
        "recommender",
        "recommender_exact",
        "retrieval",
        "ranking",
    }
    assert needs.cpu_flags == {"tensorflow": ("avx",)}


@pytest.mark.parametrize("content", [None, b"", b"no graph"])
def test_what_is_no_saved_model_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(NoSavedModelError, match="saved_model.pb`"):
        needs_of_model(tmp_path)
