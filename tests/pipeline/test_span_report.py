"""The report over spans: what is kept, which lines are drawn, and the page."""

import html.parser
import json

import pytest

from components.data_report import spans_page
from components.data_report.spans_page import Line, Point
from pipeline.layout import Layout
from pipeline.span_report import (
    SpanFigures,
    Training,
    lines_of,
    read_spans,
    record_span,
    span_figures,
)


def run_figures(continued_from=5, recall=0.25, passed=True):
    """Returns the part of a run's figures that the report reads."""
    return {
        "training": {
            "trained_through": 9,
            "continued_from": continued_from,
            "rows": 40,
            "seconds": 2.5,
            "cpu_seconds": 4.0,
        },
        "retrieval": {
            "test": {"events": 12},
            "two_tower": {
                "recall@10": recall / 5,
                "recall@100": recall,
                "recall@10_interval": [0.0, 0.1],
                "recall@100_interval": [recall - 0.125, recall + 0.125],
            },
        },
        "gates": {"data": {"passed": True}, "retrieval": {"passed": passed}},
    }


def entry(span, training="continued", is_first=False, recall=0.25, **changed):
    of_run = run_figures(None if is_first else 5, recall)
    made = span_figures("films", span, training == "from_scratch", of_run)
    return made.model_copy(update=changed)


def test_figures_of_a_run():
    made = span_figures("films", "7", False, run_figures(passed=False))
    assert made == SpanFigures(
        config="films",
        span="7",
        training=Training.CONTINUED,
        is_first=False,
        passed=False,
        events=12,
        recall={"recall@10": 0.05, "recall@100": 0.25},
        intervals={"recall@10": (0.0, 0.1), "recall@100": (0.125, 0.375)},
        rows=40,
        seconds=2.5,
        cpu_seconds=4.0,
    )
    first = span_figures("films", "7", False, run_figures(None))
    assert first.is_first and first.training is Training.CONTINUED
    anew = span_figures("films", "7", True, run_figures(None))
    assert not anew.is_first and anew.training is Training.FROM_SCRATCH
    # The data gate refused: there is no model to tell of.
    assert span_figures("films", "7", False, {"gates": {}}) is None


def check_lines(lines_of):
    """The checker: the spans and recalls of each line, by hand."""
    entries = [
        entry("9", is_first=True, recall=0.5),
        entry("10"),
        entry("10", "from_scratch", recall=0.375),
        entry("11"),
    ]
    drawn = {
        line.name: [(point.span, point.recall["recall@100"]) for point in line.points]
        for line in lines_of(entries)
    }
    assert drawn == {
        "continued": [("9", 0.5), ("10", 0.25), ("11", 0.25)],
        # The first run of a line has nothing to continue: it is both.
        "from_scratch": [("9", 0.5), ("10", 0.375)],
    }
    assert [line.name for line in lines_of(entries[:2])] == ["continued"]
    # A span that was run anew although there was nothing to continue from.
    anew = entry("9", "from_scratch", recall=0.625)
    (_, scratch) = lines_of([*entries, anew])
    assert scratch.points[0].recall["recall@100"] == 0.625


def test_lines():
    check_lines(lines_of)


def without_the_shared_first(entries):
    lines = []
    for line in lines_of(entries):
        own = [e.span for e in entries if e.training.value == line.name]
        kept = [point for point in line.points if point.span in own]
        lines.append(Line(line.name, kept))
    return lines


def as_texts(entries):
    return [
        Line(line.name, sorted(line.points, key=lambda point: point.span))
        for line in lines_of(entries)
    ]


@pytest.mark.parametrize("wrong", [without_the_shared_first, as_texts])
def test_lines_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_lines(wrong)


@pytest.mark.component
def test_a_run_takes_the_place_of_an_earlier_one_of_its_kind(tmp_path):
    layout = Layout(tmp_path)
    assert read_spans(layout.spans, "films") == []
    record_span(layout, entry("10", recall=0.25))
    record_span(layout, entry("9", is_first=True))
    record_span(layout, entry("10", "from_scratch"))
    record_span(layout, entry("3", config="songs"))
    entries = record_span(layout, entry("10", recall=0.375))
    assert entries == read_spans(layout.spans, "films")
    seen = [(e.span, e.training.value, e.recall["recall@100"]) for e in entries]
    assert seen == [
        ("9", "continued", 0.25),
        ("10", "continued", 0.375),
        ("10", "from_scratch", 0.25),
    ]
    assert len(json.loads(layout.spans.read_text())) == 4
    page = layout.spans_page.read_text()
    assert "0.3750" in page and "Spans · films" in page
    board = layout.pipeline / "spans" / "films"
    for name in ("continued", "from_scratch"):
        # One file each, however often the report is drawn.
        assert len(list((board / name).glob("events.out.tfevents.*"))) == 1


def point(span, recall, low, high, cpu_seconds=2.0):
    return Point(
        span=span,
        passed=span != "2",
        events=10,
        recall={"recall@100": recall},
        intervals={"recall@100": (low, high)},
        rows=1234,
        seconds=1.0,
        cpu_seconds=cpu_seconds,
    )


LINES = [
    Line("continued", [point("1", 0.5, 0.25, 1.0), point("2", 0.25, 0.0, 0.5)]),
    Line("from_scratch", [point("2", 0.375, 0.25, 0.5, 6.0)]),
]


def check_chart(recall_chart):
    """The checker: places on paper, by hand."""
    chart = recall_chart(LINES, "recall@100")
    height = spans_page.HEIGHT - spans_page.BOTTOM
    step = (spans_page.WIDTH - spans_page.LEFT) / 2
    first, second = chart.marks["continued"]
    (other,) = chart.marks["from_scratch"]
    assert (first.x, second.x) == (
        spans_page.LEFT + step / 2,
        spans_page.LEFT + step * 1.5,
    )
    assert other.x == second.x
    # The highest end of an interval, 1, stands a twentieth below the top; 0 is the floor.
    assert second.low == height
    assert first.high == pytest.approx(height * (1 - 1 / 1.05), abs=0.1)
    assert first.y == pytest.approx(height * (1 - 0.5 / 1.05), abs=0.1)
    assert other.y == pytest.approx(height * (1 - 0.375 / 1.05), abs=0.1)
    assert [text for _, text in chart.ticks] == [
        "0.000",
        "0.250",
        "0.500",
        "0.750",
        "1.000",
    ]
    assert [text for _, text in chart.spans] == ["1", "2"]


def test_chart():
    check_chart(spans_page.recall_chart)


def each_on_its_own_scale(lines, name):
    charts = [spans_page.recall_chart([line], name) for line in lines]
    marks = {key: marks for chart in charts for key, marks in chart.marks.items()}
    return spans_page.Chart("", marks, charts[0].ticks, charts[0].spans)


def upside_down(lines, name):
    chart = spans_page.recall_chart(lines, name)
    height = spans_page.HEIGHT - spans_page.BOTTOM
    marks = {
        key: [
            spans_page.Mark(m.x, height - m.y, height - m.low, height - m.high, m.title)
            for m in of_line
        ]
        for key, of_line in chart.marks.items()
    }
    return spans_page.Chart("", marks, chart.ticks, chart.spans)


@pytest.mark.parametrize("wrong", [each_on_its_own_scale, upside_down])
def test_chart_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_chart(wrong)


class Tags(html.parser.HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_whole_and_holds_every_figure():
    page = spans_page.render("a<b", LINES)
    tags = Tags(page)
    assert tags.open == []
    assert "script" not in tags.seen
    assert tags.seen.count("circle") == 2 + 2 * 3  # the key, then recall and cost
    assert "a&lt;b" in page and "a<b" not in page
    assert "0.3750" in page and "0.2500 to 0.5000" in page and "1,234" in page
    assert page.count('class="mark fail"') == 2  # the refused span, on both lines
    assert "continued: 4 CPU seconds over 2 spans" in page
    assert "retrained from scratch: 6 CPU seconds over 1 span\n" in page or (
        "over 1 span<" in page
    )


def test_of_many_spans_only_some_are_named():
    many = [point(str(n), 0.1, 0.1, 0.1) for n in range(1, 31)]
    chart = spans_page.recall_chart([Line("continued", many)], "recall@100")
    assert len(chart.spans) <= 12
    assert len(chart.marks["continued"]) == 30
