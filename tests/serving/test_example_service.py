"""Classify, Regress and MultiInference, in TF Serving's words."""

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, inference_pb2, regression_pb2

from serving.errors import RequestError
from serving.example_service import (
    CLASSIFY_METHOD,
    REGRESS_METHOD,
    classify,
    multi_inference,
    regress,
)
from serving.saved_model import SavedModel
from tests.serving.toy_examples import write_examples_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    loaded = SavedModel(write_examples_model(tmp_path_factory.mktemp("examples") / "1"))
    yield loaded
    loaded.close()


def example(**features: float) -> tf.train.Example:
    made = tf.train.Example()
    for name, value in features.items():
        made.features.feature[name].float_list.value.append(value)
    return made


def filled(request, signature: str, ages: list[float], context: float | None = None):
    """Returns the request with an example for each age; nan leaves it out."""
    request.model_spec.name = "people"
    request.model_spec.signature_name = signature
    fill(request.input, ages, context)
    return request


def fill(target, ages, context=None):
    rows = [example() if age != age else example(age=age) for age in ages]
    if context is None:
        target.example_list.examples.extend(rows)
    else:
        target.example_list_with_context.examples.extend(rows)
        target.example_list_with_context.context.CopyFrom(example(age=context))


def test_classify_gives_each_class_its_label_and_score(model):
    request = filled(classification_pb2.ClassificationRequest(), "classify", [20, 75])
    answer = classify(model, 7, request)
    seen = [
        [(one.label, pytest.approx(one.score)) for one in row.classes]
        for row in answer.result.classifications
    ]
    assert seen == [[("old", 0.2), ("young", 0.8)], [("old", 0.75), ("young", 0.25)]]
    assert answer.model_spec.name == "people"
    assert answer.model_spec.version.value == 7
    assert answer.model_spec.signature_name == "classify"


def test_scores_without_classes_have_no_label(model):
    request = filled(classification_pb2.ClassificationRequest(), "scores_only", [20])
    (row,) = classify(model, 1, request).result.classifications
    assert [one.label for one in row.classes] == ["", ""]
    assert row.classes[0].score == pytest.approx(0.2)


@pytest.mark.parametrize("signature", ["regress", "column"])
def test_regress_gives_each_example_a_number(model, signature):
    request = filled(regression_pb2.RegressionRequest(), signature, [20, 75])
    answer = regress(model, 1, request)
    assert [row.value for row in answer.result.regressions] == [20, 75]


def test_context_is_every_example_s_unless_it_has_its_own(model):
    nan = float("nan")
    request = filled(regression_pb2.RegressionRequest(), "regress", [nan, 75, nan], 33)
    answer = regress(model, 1, request)
    assert [row.value for row in answer.result.regressions] == [33, 75, 33]


def tasks(*methods: tuple[str, str], name: str = "people"):
    request = inference_pb2.MultiInferenceRequest()
    for signature, method in methods:
        task = request.tasks.add(method_name=method)
        task.model_spec.name = name
        task.model_spec.signature_name = signature
    fill(request.input, [20])
    return request


def test_multi_inference_answers_every_task(model):
    request = tasks(("regress", REGRESS_METHOD), ("classify", CLASSIFY_METHOD))
    first, second = multi_inference(model, 4, request).results
    assert first.regression_result.regressions[0].value == 20
    assert second.classification_result.classifications[0].classes[0].label == "old"
    assert first.model_spec.version.value == second.model_spec.version.value == 4
    assert second.model_spec.signature_name == "classify"


def two_models():
    request = tasks(("regress", REGRESS_METHOD), ("classify", CLASSIFY_METHOD))
    request.tasks[1].model_spec.name = "other"
    return request


@pytest.mark.parametrize(
    ("answer", "request_", "part"),
    [
        (
            classify,
            filled(classification_pb2.ClassificationRequest(), "regress", [1]),
            "method_name to be tensorflow/serving/classify. Was: tensorflow/serving/regr",
        ),
        (
            regress,
            filled(regression_pb2.RegressionRequest(), "", [1]),
            "method_name to be tensorflow/serving/regress. Was: tensorflow/serving/predi",
        ),
        (
            regress,
            filled(regression_pb2.RegressionRequest(), "none", [1]),
            'No signature was found with the name "none"',
        ),
        (
            regress,
            filled(regression_pb2.RegressionRequest(), "regress", []),
            "Input is empty.",
        ),
        (
            multi_inference,
            tasks(("regress", REGRESS_METHOD), ("regress", REGRESS_METHOD)),
            "Duplicate evaluation of signature: regress",
        ),
        (
            multi_inference,
            tasks(("regress", "tensorflow/serving/predict")),
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
        (multi_inference, two_models(), "must access the same model name."),
    ],
)
def test_what_cannot_be_answered_is_refused(model, answer, request_, part):
    with pytest.raises(RequestError, match=".") as refused:
        answer(model, 1, request_)
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert part in refused.value.message


def test_bytes_that_are_no_example_are_the_request_s_fault(model):
    request = filled(regression_pb2.RegressionRequest(), "regress", [1])
    shared = request.input.example_list_with_context
    shared.examples.add()
    shared.context.features.feature["age"].bytes_list.value.append(b"old")
    with pytest.raises(RequestError) as refused:
        regress(model, 1, request)
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
