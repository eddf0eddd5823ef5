"""A chart is well-formed and true to scale."""

import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks.chart import Bar, bar_chart

SPACE = "{http://www.w3.org/2000/svg}"
BARS = [Bar("a <b>", 0.4, 0.35, 0.5, is_ours=True), Bar("c", 0.1, 0.05, 0.15)]


def check_scale(draw):
    root = ElementTree.fromstring(draw("recall & more", BARS))
    texts = [text.text for text in root.iter(f"{SPACE}text")]
    assert texts[0] == "recall & more"
    assert "a <b>" in texts
    assert "0.400 (0.350 to 0.500)" in texts
    _, first, second = root.iter(f"{SPACE}rect")
    assert float(first.get("width")) == pytest.approx(4 * float(second.get("width")))
    assert first.get("fill") != second.get("fill")


def test_bar_chart():
    check_scale(bar_chart)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda title, bars: bar_chart(title, bars[::-1]),
        lambda title, bars: bar_chart(
            title, [Bar(b.label, b.low, b.low, b.high) for b in bars]
        ),
    ],
)
def test_checker_rejects_wrong_charts(wrong):
    with pytest.raises(AssertionError):
        check_scale(wrong)
