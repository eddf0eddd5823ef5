"""The file of recorded requests."""

import json

import numpy as np
import pytest

from serving.recorded import RecordedCase, read_expected, write_expected


def test_recorded_cases_come_back_as_they_were(tmp_path):
    inputs = {
        "user_id": np.array(["ana", b"ben"], object),
        "examples": np.array([b"\x0a\xff"], object),
        "user_age": np.array([[np.nan, 1.5, np.inf, -np.inf]], np.float32),
        "k": np.array(3, np.int32),
        "seed": np.array([2**62], np.int64),
        "empty": np.empty((1, 0), object),
    }
    outputs = {"scores": np.array([[0.1, 1e-30]], np.float32)}
    path = tmp_path / "expected.json"
    write_expected(path, [RecordedCase("m", "s", inputs, outputs)])
    (case,) = read_expected(path)
    assert (case.model, case.signature) == ("m", "s")
    assert case.inputs["user_id"].tolist() == [b"ana", b"ben"]
    for name in ("examples", "user_age", "k", "seed", "empty"):
        np.testing.assert_array_equal(case.inputs[name], inputs[name])
        assert case.inputs[name].dtype == inputs[name].dtype
    np.testing.assert_array_equal(case.outputs["scores"], outputs["scores"])


def test_recorded_file_is_plain_json(tmp_path):
    path = tmp_path / "expected.json"
    case = RecordedCase(
        "m", "s", {"a": np.array([np.nan], np.float32)}, {"b": np.array(["x"], object)}
    )
    write_expected(path, [case])

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    content = json.loads(path.read_text(), parse_constant=refuse)
    assert content == [
        {
            "model": "m",
            "signature": "s",
            "inputs": {"a": {"dtype": "float", "shape": [1], "values": [None]}},
            "outputs": {"b": {"dtype": "string", "shape": [1], "values": ["x"]}},
        }
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "should hold JSON"),
        ("{}", "a list of cases"),
        ('[{"model": "m"}]', "case 0: KeyError"),
        (
            '[{"model": "m", "signature": "s", "outputs": {}, "inputs": '
            '{"a": {"dtype": "float", "shape": [2], "values": [1]}}}]',
            "case 0",
        ),
        (
            '[{"model": "m", "signature": "s", "outputs": {}, "inputs": '
            '{"a": {"dtype": "flote", "shape": [1], "values": [1]}}}]',
            "dtype should be one of",
        ),
    ],
)
def test_bad_file_is_refused(tmp_path, text, message):
    path = tmp_path / "expected.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_expected(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is missing"):
        read_expected(tmp_path / "expected.json")
