"""The examples of docs/serving.md run as they stand, but for the port."""

import re
from pathlib import Path

import pytest

from serving.server import ModelServer
from tests.serving.toy_release import expected_answer, place

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def server(good_bundle, tmp_path_factory):
    root = place(good_bundle, tmp_path_factory.mktemp("root"), 1)
    with ModelServer(root, port=0) as running:
        yield running


@pytest.mark.parametrize("number", range(2))
def test_example_prints_recommendations(server, capsys, number):
    code = EXAMPLES[number].replace("localhost:8500", server.target)
    exec(compile(code, str(PAGE), "exec"), {})
    printed = capsys.readouterr().out
    expected = expected_answer(["i00", "i02"], [], 5)["item_ids"][0]
    assert re.findall(r"i\d\d", printed) == expected.tolist()
