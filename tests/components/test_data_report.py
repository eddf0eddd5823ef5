"""The page says what the gate says, and nothing of a log can act on who reads it."""

import html.parser
import re

import pandas as pd
import pytest
import tensorflow_data_validation as tfdv

from components.comparison import Comparison, Distance, Kind
from components.data_report import charts
from components.data_report.page import DataReport, render
from components.data_report.tables import feature_tables
from components.feature_statistics import statistics_options
from components.gate import Check, GateResult
from components.ingestion.summary import Summary
from components.visible_text import visible

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><b>loud</b>",
    "{{ 7 * 7 }}{% raw %}",
    "a\u202egnp.exe",
    "bell\x07 escape\x1b[2J nul\x00 line\nend",
    "`tick` & <i>italics</i>",
    "naïve 日本語 עברית 👩\u200d🚀",
)


def statistics(titles, ages):
    rows = pd.DataFrame({"item_title": titles, "user_age": ages})
    return tfdv.generate_statistics_from_dataframe(rows, statistics_options())


def report(hostile=False, **changes):
    words = HOSTILE if hostile else ("Alien", "Brazil")
    name = HOSTILE[0] if hostile else "films"
    source = {
        "files": 1,
        "read": 103,
        "accepted": 97,
        "duplicates": 2,
        "dead_letters": 4,
        "reasons": [{"field": words[1], "rule": words[0], "count": 4}],
        "spans": {
            span: {"read": 50, "accepted": 47, "duplicates": 1, "dead_letters": 2}
            for span in ("2026-11-20", words[0])
        },
    }
    facts = {
        "rows": 30,
        "sampled": 3,
        "label_min": 0.0,
        "label_max": 1.0,
        "label_mean": 0.125,
        "propensities": 27,
        "propensity_min": 0.015625,
        "effective_sample_size": 13.5,
    }
    splits = ("train", "eval", "test")
    distance = {"measure": "linf", "threshold": 0.25, "detail": f"most by `{words[1]}`"}
    record = {
        "name": name,
        "result": GateResult(
            name,
            (
                Check("accepted events", True, "97", "at least 1"),
                Check(f"mean `{words[1]}`", False, words[0], words[1]),
            ),
        ),
        "summary": Summary.model_validate(
            {
                "sources": {"events": source},
                "events": dict.fromkeys(splits, 30),
                "rows": {
                    "interactions": dict.fromkeys(splits, 20),
                    "impressions": dict.fromkeys(splits, 30),
                },
                "users": 8,
                "items": 10,
                "unknown_item_events": 1,
                "unknown_user_events": 0,
                "split_times": {"first": 0, "eval_from": 1, "test_from": 2, "last": 3},
                "impressions": dict.fromkeys(splits, facts),
            }
        ),
        "statistics": {
            split: statistics([*words, None], [20.0 + i for i in range(len(words) + 1)])
            for split in splits
        },
        "anomalies": {"train": {}, "test": {words[1]: words[0]}},
        "comparisons": (
            Comparison(
                kind=Kind.DRIFT,
                base=words[0],
                current="2026-11-21",
                base_rows=40,
                current_rows=50,
                distances=(
                    Distance(feature=words[1], seen=0.5, **distance),
                    Distance(feature="user_age", seen=None, **distance),
                ),
            ),
        ),
    }
    return DataReport(**record | changes)


class Reader(html.parser.HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.texts.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    return reader


def check_page_is_inert(render_page):
    """The checker: a hostile log gives the very tags of a harmless one, and its words."""
    calm = read(render_page(report()))
    hostile = read(render_page(report(hostile=True)))
    extra = {"rect", "title", "bdi", "span", "small", "code"}  # one for each value
    assert set(hostile.tags) == set(calm.tags)
    assert [tag for tag in hostile.tags if tag not in extra] == [
        tag for tag in calm.tags if tag not in extra
    ]
    assert not [name for name, _ in hostile.attributes if name.startswith("on")]
    text = "".join(hostile.texts)
    assert "<script>alert(1)</script>" in text
    assert "{{ 7 * 7 }}" in text
    for hidden in "\u202e\x07\x1b\x00":
        assert hidden not in text
    assert "a\\u202egnp.exe" in text
    assert "naïve 日本語 עברית 👩\u200d🚀" in text


def test_nothing_of_a_log_acts_on_the_page():
    check_page_is_inert(render)


def unescaped(told):
    return html.unescape(render(told))


def without_hidden(told):
    return render(told).replace("a\\u202egnp.exe", "a\u202egnp.exe")


def without_markup(told):
    return re.sub(r"&lt;.*?&gt;", "", render(told))


@pytest.mark.parametrize("wrong", [unescaped, without_hidden, without_markup])
def test_inert_page_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_page_is_inert(wrong)


def test_page_needs_nothing_from_anywhere():
    page = read(render(report()))
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    for name, value in page.attributes:
        assert name not in ("src", "srcset", "action", "style"), (name, value)
        assert name != "href" or value.startswith("#")
    (policy,) = [v for n, v in page.attributes if n == "content" and "src" in v]
    assert policy.startswith("default-src 'none'")


def test_page_is_utf8_even_of_half_a_character():
    told = report(name="films \ud800")
    assert "films \\ud800" in render(told).encode().decode()


def test_page_says_what_the_gate_found():
    told = report()
    text = re.sub(r"\s+", " ", "".join(read(render(told)).texts))
    assert "The log was refused" in text
    assert "films refused: mean Brazil: seen Alien, expected Brazil." in text
    assert "1 of 2 passed. What failed stands first." in text
    assert "Drift from Alien to 2026-11-21" in text
    assert "40 and 50 rows." in text
    assert "unknown" in text  # the distance that could not be measured
    assert "103" in text and "3.88%" in text  # 4 dead letters of 103
    assert "13" in text and "(50.00%)" in text  # 13.5 of 27
    passed = GateResult("gate", (Check("events", True, "97", "at least 1"),))
    assert "The log passed" in render(report(result=passed))


def test_page_says_where_statistics_are_of_a_sample():
    assert "From a sample" not in render(report(statistics={}))
    text = "".join(read(render(report())).texts)
    # The statistics are of 3 rows, the account says 30.
    assert (
        "From a sample of the rows: train 3 of 30, eval 3 of 30, test 3 of 30." in text
    )


def test_page_of_a_log_without_rows_thresholds_or_spans():
    empty = tfdv.generate_statistics_from_dataframe(pd.DataFrame())
    splits = dict.fromkeys(("train", "eval", "test"), empty)
    page = render(report(statistics=splits, comparisons=(), anomalies={}))
    assert "Not measured" in page
    assert "No split was compared" in page


def test_numbers_beside_numbers():
    ages = [10.0, 20.0, 30.0, 40.0]
    told = {
        "train": statistics(["x"] * 4, ages),
        "test": statistics(["x", "x", None, "y"], [10.0, None, None, None]),
    }
    (age,), (title,) = feature_tables(told)
    train, test = age.rows
    assert (age.key, age.type) == ("user_age", "FLOAT")
    assert (train.present, train.missing, train.mean) == ("4", "0.0%", "25")
    assert train.deviation == "11.18"  # sqrt(125)
    assert (train.points[0], train.points[-1]) == ("10", "40")
    assert (test.present, test.missing, test.mean) == ("1", "75.0%", "10")
    train, test = title.rows
    assert (train.distinct, train.top) == ("1", [("x", "100.00%")])
    assert (test.present, test.missing, test.distinct) == ("3", "25.0%", "2")
    assert test.top == [("x", "66.67%"), ("y", "33.33%")]


def test_ids_that_never_recur_are_counted_not_listed():
    ids = [f"e{number}" for number in range(50)]
    _, (title,) = feature_tables({"train": statistics(ids, [1.0] * 50)})
    assert title.rows[0].distinct == "50"
    assert title.rows[0].top == title.rows[0].bars == []


def bar_heights(bars):
    return [bar.height for bar in bars]


def test_bars_of_a_feature_share_one_scale():
    bars = charts.value_bars({"train": {"a": 0.5, "b": 0.25}, "test": {"b": 1.0}})
    # b is the most frequent anywhere, so it comes first; the highest bar is test's.
    assert bar_heights(bars["train"]) == [charts.HEIGHT / 4, charts.HEIGHT / 2]
    assert bar_heights(bars["test"]) == [charts.HEIGHT, 0]
    assert [bar.title for bar in bars["test"]] == ["b: 100.00%", "a: 0.00%"]


def test_bars_of_numbers_lie_where_the_numbers_are():
    (age,), _ = feature_tables(
        {
            "train": statistics(["x"] * 200, [0.0] * 150 + [100.0] * 50),
            "test": statistics(["x"] * 2, [50.0, 50.0]),
        }
    )
    train, test = (bar_heights(row.bars) for row in age.rows)
    assert train[0] == pytest.approx(charts.HEIGHT * 0.75, rel=0.02)
    assert train[-1] == pytest.approx(charts.HEIGHT * 0.25, rel=0.02)
    assert sum(train[1:-1]) == pytest.approx(0, abs=0.5)
    assert test[charts.NUM_BARS // 2] == charts.HEIGHT
    assert sum(test) == charts.HEIGHT


@pytest.mark.parametrize("text", HOSTILE[:4])
def test_visible_text_leaves_markup_to_who_escapes_it(text):
    assert visible(text) == text


def test_visible_text_is_cut_where_it_is_long():
    assert visible("x" * 130) == "x" * 120 + "… (10 more)"
    assert visible("x" * 120) == "x" * 120
    assert visible("\U000e0041") == "\\U000e0041"  # an invisible tag character
