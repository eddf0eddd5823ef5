"""Bodies of the REST API: rows and columns become tensors, and tensors come back."""

import json

import numpy as np
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.errors import RequestError
from serving.rest_json import (
    dumps,
    examples_of,
    parse_object,
    predict_answer,
    predict_inputs,
)

DTYPES = {
    "float": types_pb2.DT_FLOAT,
    "int": types_pb2.DT_INT32,
    "string": types_pb2.DT_STRING,
    "bool": types_pb2.DT_BOOL,
}


def signature(**inputs: str) -> meta_graph_pb2.SignatureDef:
    made = meta_graph_pb2.SignatureDef()
    for name, kind in inputs.items():
        made.inputs[name].dtype = DTYPES[kind]
        made.inputs[name].tensor_shape.unknown_rank = True
    return made


ROWS = {"instances": [{"a": [1, 2], "s": "x"}, {"a": [3, 4], "s": {"b64": "/w=="}}]}
COLUMNS = {"inputs": {"a": [[1, 2], [3, 4]], "s": ["x", {"b64": "/w=="}]}}


def check_inputs(implementation):
    """Rows and columns of the same values are the same tensors."""
    wanted = signature(a="float", s="string")
    for body, is_rows in ((ROWS, True), (COLUMNS, False)):
        arrays, seen = implementation(body, wanted)
        assert seen is is_rows
        assert arrays["a"].dtype == np.float32
        assert arrays["a"].tolist() == [[1, 2], [3, 4]]
        assert arrays["s"].tolist() == [b"x", b"\xff"]
    one = signature(a="int")
    assert implementation({"instances": [[1], [2]]}, one)[0]["a"].tolist() == [[1], [2]]
    assert implementation({"inputs": 3}, one)[0]["a"].shape == ()
    empty = implementation({"inputs": [[], []]}, one)[0]["a"]
    assert empty.shape == (2, 0)


def rows_by_column(body, wanted):
    arrays, is_rows = predict_inputs(body, wanted)
    return {name: array.T for name, array in arrays.items()}, is_rows


def keeps_base64(body, wanted):
    text = json.dumps(body).replace('{"b64": "/w=="}', '"/w=="')
    return predict_inputs(json.loads(text), wanted)


def without_dtypes(body, wanted):
    arrays, is_rows = predict_inputs(body, wanted)
    return {
        name: array.astype(np.float64) if array.dtype != object else array
        for name, array in arrays.items()
    }, is_rows


def test_inputs():
    check_inputs(predict_inputs)


@pytest.mark.parametrize("wrong", [rows_by_column, keeps_base64, without_dtypes])
def test_checker_rejects_wrong_inputs(wrong):
    with pytest.raises(AssertionError):
        check_inputs(wrong)


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({}, "either 'instances' or 'inputs'"),
        ({"inputs": 1, "instances": [1]}, "either 'instances' or 'inputs'"),
        ({"instances": []}, "a list of at least one"),
        ({"instances": {"a": 1}}, "Received: Object"),
        ({"instances": [{"a": 1, "s": "x"}, {"a": 1}]}, "instances[1] should be"),
        ({"instances": [{"a": 1, "s": "x"}, 3]}, "instances[1] should be"),
        ({"instances": [1, 2]}, "Inputs should be named"),
        ({"inputs": {"a": 1}}, "Received: ['a']. Expected: ['a', 's']"),
        ({"inputs": {"a": [[1], [2, 3]], "s": "x"}}, "input a: lists at depth 2"),
        ({"inputs": {"a": [1, [2]], "s": "x"}}, "input a"),
        (
            {"inputs": {"a": "1", "s": "x"}},
            "Type: String is not of expected type: float",
        ),
        (
            {"inputs": {"a": True, "s": "x"}},
            "Type: Bool is not of expected type: float",
        ),
        (
            {"inputs": {"a": None, "s": "x"}},
            "Type: Null is not of expected type: float",
        ),
        ({"inputs": {"a": 1, "s": 2}}, "Type: Number is not of expected type: string"),
        ({"inputs": {"a": 1, "s": {"b64": "*"}}}, "Unable to base64 decode"),
        ({"inputs": {"a": 10**400, "s": "x"}}, "input a"),
    ],
)
def test_a_body_that_does_not_fit_says_where(body, part):
    with pytest.raises(RequestError) as refused:
        predict_inputs(body, signature(a="float", s="string"))
    assert part in refused.value.message


@pytest.mark.parametrize("value", [1.5, 2**40, True, "1"])
def test_an_integer_takes_integers_of_its_size_alone(value):
    with pytest.raises(RequestError, match="input n"):
        predict_inputs(
            {"inputs": {"n": value, "s": ""}}, signature(n="int", s="string")
        )


def test_a_boolean_takes_booleans_alone():
    wanted = signature(flag="bool")
    assert predict_inputs({"inputs": [True]}, wanted)[0]["flag"].tolist() == [True]
    with pytest.raises(RequestError, match="input flag"):
        predict_inputs({"inputs": [1]}, wanted)


def test_special_floats_come_and_go():
    body = parse_object(b'{"inputs": [NaN, Infinity, -Infinity]}')
    (array,) = predict_inputs(body, signature(a="float"))[0].values()
    np.testing.assert_array_equal(array, np.float32([np.nan, np.inf, -np.inf]))
    answered = dumps(predict_answer({"a": array}, is_rows=True))
    assert answered == b'{"predictions":[NaN,Infinity,-Infinity]}'


OUTPUTS = {
    "n": np.array([[1], [2]], np.int64),
    "s": np.array([b"\xc3\xa9", b"\xff"], object),
    "raw_bytes": np.array([b"a", b"b"], object),
}


def test_answers_have_the_form_of_the_request():
    b64 = [{"b64": "YQ=="}, {"b64": "Yg=="}]
    assert predict_answer(OUTPUTS, is_rows=True) == {
        "predictions": [
            {"n": [1], "s": "é", "raw_bytes": b64[0]},
            {"n": [2], "s": {"b64": "/w=="}, "raw_bytes": b64[1]},
        ]
    }
    assert predict_answer(OUTPUTS, is_rows=False) == {
        "outputs": {"n": [[1], [2]], "s": ["é", {"b64": "/w=="}], "raw_bytes": b64}
    }
    only = {"n": OUTPUTS["n"]}
    assert predict_answer(only, is_rows=True) == {"predictions": [[1], [2]]}
    assert predict_answer(only, is_rows=False) == {"outputs": [[1], [2]]}


def test_outputs_without_rows_are_refused_row_by_row():
    for odd in (np.array(1.0), np.array([1.0, 2.0, 3.0])):
        with pytest.raises(RequestError, match="first dimension"):
            predict_answer({"n": OUTPUTS["n"], "odd": odd}, is_rows=True)


def test_examples_take_numbers_text_and_bytes():
    rows, context = examples_of(
        {
            "context": {"hour": 3},
            "examples": [{"age": 1.5, "tags": ["a", {"b64": "/w=="}], "n": [1, 2]}],
        }
    )
    (features,) = [row.features.feature for row in rows]
    assert features["age"].float_list.value == [1.5]
    assert features["tags"].bytes_list.value == [b"a", b"\xff"]
    assert features["n"].int64_list.value == [1, 2]
    assert context.features.feature["hour"].int64_list.value == [3]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"examples": []},
        {"examples": {"age": 1}},
        {"examples": [3]},
        {"examples": [{"age": {"x": 1}}]},
        {"examples": [{"age": [1, "a"]}]},
        {"examples": [{"n": 2**70}]},
        {"examples": [{}], "context": 3},
    ],
)
def test_examples_that_are_none_are_refused(body):
    with pytest.raises(RequestError):
        examples_of(body)


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000, b"3"])
def test_a_body_that_is_no_object_is_refused(body):
    with pytest.raises(RequestError, match="JSON"):
        parse_object(body)
