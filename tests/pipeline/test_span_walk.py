"""Which spans are walked, in which order, and what each run is told."""

from types import SimpleNamespace

import pytest

from components.ingestion.errors import IngestionError
from pipeline.config import load_config
from tests.pipeline.test_span_report import run_figures

pytestmark = pytest.mark.component  # importing TFX takes seconds


def config_of(folder, *names, path="log/events-{SPAN}.jsonl", **spans):
    (folder / "log").mkdir(exist_ok=True)
    for name in names:
        (folder / "log" / name).write_text("{}\n")
    overrides = [f"data.events.path='{path}'"]
    overrides += [f"data.spans.{key}={value!r}" for key, value in spans.items()]
    return load_config("movielens-100k", overrides)


NUMBERS = ("events-9.jsonl", "events-10.jsonl", "events-11.jsonl", "events-12.jsonl")


def test_spans_with_one_before_are_walked_within_the_bounds(tmp_path):
    from pipeline.span_walk import spans_to_walk

    config = config_of(tmp_path, *NUMBERS)
    assert spans_to_walk(config, tmp_path, None, None) == ["10", "11", "12"]
    assert spans_to_walk(config, tmp_path, "9", "11") == ["10", "11"]
    assert spans_to_walk(config, tmp_path, "11", None) == ["11", "12"]
    # What the config reads for a single run does not bound the walk.
    bounded = config_of(tmp_path, until="10", last=1)
    assert spans_to_walk(bounded, tmp_path, None, None) == ["10", "11", "12"]
    with pytest.raises(IngestionError, match="no span to walk from 13 to the last"):
        spans_to_walk(config, tmp_path, "13", None)


def test_log_without_spans_cannot_be_walked(tmp_path):
    from pipeline.span_walk import spans_to_walk

    config = config_of(tmp_path, "events.jsonl", path="log/events.jsonl")
    with pytest.raises(IngestionError, match=r"data.events.path: .* names no spans"):
        spans_to_walk(config, tmp_path, None, None)


def test_each_span_is_continued_and_then_trained_from_scratch(tmp_path, monkeypatch):
    from pipeline import span_walk
    from pipeline.layout import Layout
    from pipeline.span_report import read_spans

    runs = []

    def run_pipeline(config, root, on_stage, span_run):
        runs.append(span_run)
        is_anew = span_run.from_scratch or span_run.span == "2"
        figures = run_figures(None if is_anew else 5, 0.5 if is_anew else 0.25)
        release = None if span_run.until else int(span_run.span)
        return SimpleNamespace(
            figures=figures, span=span_run.span, refused=[], release=release
        )

    monkeypatch.setattr(span_walk, "run_pipeline", run_pipeline)
    config = load_config("movielens-100k")
    announced = []
    span_walk.walk_spans(config, tmp_path, ["2", "3"], announced.append, lambda _: None)
    seen = [(run.span, run.from_scratch, run.until) for run in runs]
    assert seen == [
        ("2", False, None),  # nothing to continue: the beginning of both lines
        ("3", True, "EvaluateRetrieval"),
        ("3", False, None),
    ]
    assert announced == runs
    entries = read_spans(Layout(tmp_path).spans, "movielens-100k")
    assert [(e.span, e.training.value, e.is_first) for e in entries] == [
        ("2", "continued", True),
        ("3", "continued", False),
        ("3", "from_scratch", False),
    ]


def test_span_is_read_up_to_and_tested_on():
    from pipeline.local_runner import tested_on

    config = load_config("movielens-100k", ["data.spans.last=3"])
    data = tested_on(config, "2026-11-21").data
    assert (data.spans.until, data.spans.last) == ("2026-11-21", 3)
    assert data.split.newest_span and not config.data.split.newest_span


def check_leading_to(leading_to):
    """The checker: of four stages, those that one waits for, in their order."""

    def node(name, *upstream):
        info = SimpleNamespace(id=name)
        return SimpleNamespace(
            pipeline_node=SimpleNamespace(node_info=info, upstream_nodes=upstream)
        )

    nodes = [node("a"), node("b", "a"), node("c", "a"), node("d", "b"), node("e", "d")]

    def names(stage):
        found = leading_to(stage, nodes)
        return [n.pipeline_node.node_info.id for n in found]

    assert names("d") == ["a", "b", "d"]
    assert names("c") == ["a", "c"]
    assert names(None) == ["a", "b", "c", "d", "e"]


def test_a_run_can_end_early():
    from pipeline.local_runner import _leading_to

    check_leading_to(_leading_to)


def up_to(stage, nodes):
    names = [node.pipeline_node.node_info.id for node in nodes]
    return nodes[: names.index(stage) + 1] if stage else nodes


def only_the_next(stage, nodes):
    wanted = {stage}
    for node in nodes:
        if node.pipeline_node.node_info.id == stage:
            wanted |= set(node.pipeline_node.upstream_nodes)
    return [n for n in nodes if not stage or n.pipeline_node.node_info.id in wanted]


@pytest.mark.parametrize("wrong", [up_to, only_the_next])
def test_leading_to_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_leading_to(wrong)


def test_from_scratch_belongs_to_a_span(tmp_path):
    from click.testing import CliRunner

    from pipeline.cli import cli

    command = ["run", "--config", "movielens-100k", "--root", str(tmp_path)]
    done = CliRunner().invoke(cli, [*command, "--from-scratch"])
    assert done.exit_code == 2
    assert "goes with --span" in done.output
