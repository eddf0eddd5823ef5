"""The main job end to end on MovieLens 100K: fetch, run, serve, recommend."""

import dataclasses
import json
import time
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console

from components.gate import GateResult
from pipeline import display
from pipeline.ask import Answer, ask
from pipeline.config import load_config
from pipeline.datasets import fetch
from pipeline.layout import Layout

DATASET = "movielens-100k"
_USERS = ("13", "405", "655")  # active to the end of the log, of different tastes
_LIKED_FROM = 4  # stars
_NUM_LIKED = 5
_NUM_SHOWN = 5


def run_demo(root: Path, as_json: bool) -> list[GateResult]:
    """Runs the demo and prints what came of it.

    Args:
        root: receives everything.
        as_json: print one JSON object on standard output instead of tables.

    Returns:
        The gates that refused; empty if recommendations were served.
    """
    started = time.monotonic()
    console = Console(stderr=True)
    out = Console(stderr=as_json)
    layout = Layout(root)
    console.rule(f"1/4  Fetch {DATASET}")
    fetched = fetch(
        DATASET,
        layout.data,
        lambda line: console.print(line, highlight=False, soft_wrap=True),
    )
    console.rule("2/4  Run the pipeline")
    from pipeline.cli import run_with_progress
    from pipeline.local_runner import peak_memory_gib

    result = run_with_progress(load_config(DATASET), root, console)
    if result.refused:
        display.show_refusals(console, result.refused, layout)
        if as_json:
            click.echo(json.dumps({"figures": result.figures, "recommendations": []}))
        return result.refused
    console.rule("3/4  Serve the release")
    liked = liked_titles(fetched.paths["events"], fetched.paths["items"])
    answers = serve_and_ask(layout, console)
    seconds = time.monotonic() - started
    console.rule("4/4  Recommendations")
    if as_json:
        summary = {
            "root": str(root.resolve()),
            "seconds": round(seconds, 1),
            "peak_memory_gib": peak_memory_gib(),
            "figures": result.figures,
            "recommendations": [
                {
                    "liked_before": liked.get(answer.user_id, []),
                    **dataclasses.asdict(answer),
                }
                for answer in answers
            ],
        }
        click.echo(json.dumps(summary))
        return []
    for answer in answers:
        titles = "; ".join(liked.get(answer.user_id, []))
        out.print(
            f"\nUser {answer.user_id} liked before: [italic]{titles}[/italic]",
            highlight=False,
            soft_wrap=True,
        )
        out.print(display.items_table("and is shown", answer.items))
    out.print()
    display.show_figures(out, result.figures)
    out.print(
        f"\nWhole demo: {seconds:.0f} s, peak memory {peak_memory_gib()} GiB.",
        highlight=False,
        soft_wrap=True,
    )
    display.show_next(out, root, result.release)
    return []


def serve_and_ask(layout: Layout, console: Console) -> list[Answer]:
    """Starts a server of its own process, asks for three users, stops it."""
    from serving.client import RecommendationClient
    from serving.release_tables import latest_release
    from serving.server_process import ServerProcess

    tables = latest_release(layout.serving)
    with ServerProcess(layout.serving) as server:
        console.print(
            f"Release {tables.version} answers gRPC on {server.target}.",
            highlight=False,
            soft_wrap=True,
        )
        with RecommendationClient(server.target) as client:
            return [ask(client, tables, user, _NUM_SHOWN, seed=1) for user in _USERS]


def liked_titles(events_path: Path, items_path: Path) -> dict[str, list[str]]:
    """Returns the latest well-rated titles of the demo's users, the newest last."""
    events = pq.read_table(events_path)
    chosen = pc.and_(
        pc.is_in(events.column("user_id"), pa.array(_USERS, pa.string())),
        pc.greater_equal(events.column("value"), _LIKED_FROM),
    )
    rows = events.filter(chosen).sort_by("timestamp").to_pylist()
    items = pq.read_table(items_path, columns=["item_id", "title"]).to_pylist()
    titles = {row["item_id"]: row["title"] for row in items}
    liked: dict[str, list[str]] = {}
    for row in rows:
        liked.setdefault(row["user_id"], []).append(titles[row["item_id"]])
    return {user: names[-_NUM_LIKED:] for user, names in liked.items()}
