"""The `tandem` command.

Exit codes: 0 done, 1 failed, 2 bad arguments or config, 3 a gate refused.
Progress and messages go to standard error, results to standard output.
"""

import json
import os
import sys
import warnings
from pathlib import Path

import click
from rich.console import Console

from pipeline.cli_data import data
from pipeline.cli_doctor import doctor
from pipeline.cli_items import items
from pipeline.cli_ope import ope
from pipeline.cli_options import (
    BAD_CONFIG,
    FAILED,
    REFUSED,
    config_options,
    json_option,
    root_option,
)
from pipeline.cli_releases import releases, rollback
from pipeline.cli_schema import schema
from pipeline.cli_simulate import simulate
from pipeline.cli_skew import skew
from pipeline.cli_spans import spans
from pipeline.cli_tune import tune

# Commands import what they need: TFX and TensorFlow take seconds.


def main() -> None:
    """Runs the command; an expected error ends it with one message, not a traceback."""
    # TensorFlow's C++ side reads this when it is loaded; a user's own choice stands.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore")
    from components.ingestion.errors import IngestionError
    from components.push_release import PushError
    from models.continuation import ContinuationError
    from models.tuning.search import TuningError
    from pipeline.config import ConfigError
    from pipeline.datasets import DatasetError
    from serving.client import PredictError, ServerUnavailableError
    from serving.errors import ServerStartError
    from serving.release_tables import NoReleaseError

    codes: dict[type[Exception], int] = {
        ConfigError: BAD_CONFIG,
        ContinuationError: BAD_CONFIG,
        DatasetError: FAILED,
        IngestionError: FAILED,
        NoReleaseError: FAILED,
        PredictError: FAILED,
        PushError: FAILED,
        ServerStartError: FAILED,
        ServerUnavailableError: FAILED,
        TuningError: FAILED,
    }
    try:
        cli()
    except tuple(codes) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(next(codes[kind] for kind in type(error).__mro__ if kind in codes))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """From a service's event log to served recommendations."""


cli.add_command(data)
cli.add_command(doctor)
cli.add_command(items)
cli.add_command(ope)
cli.add_command(releases)
cli.add_command(rollback)
cli.add_command(schema)
cli.add_command(skew)
cli.add_command(simulate)
cli.add_command(spans)
cli.add_command(tune)


@cli.command()
@config_options
@root_option
@click.option(
    "--span",
    help="Test on this span of the log, such as 2026-11-21 or 17, and continue the last "
    "release by training on what is newer, before the span.",
)
@click.option(
    "--from-scratch", is_flag=True, help="With --span: train anew on all before it."
)
@json_option
def run(
    config_path: str,
    overrides: tuple[str, ...],
    root: Path,
    span: str | None,
    from_scratch: bool,
    as_json: bool,
) -> None:
    """Run the pipeline: from the log to a pushed release, or to the gate that refused."""
    from pipeline.config import load_config

    if from_scratch and span is None:
        raise click.BadParameter(
            "goes with --span; without a span, training always begins anew.",
            param_hint="--from-scratch",
        )
    config = load_config(config_path, overrides)
    console = Console(stderr=True)
    result = run_with_progress(config, root, console, span, from_scratch)
    out = Console(stderr=as_json)
    from pipeline import display
    from pipeline.layout import Layout

    display.show_figures(out, result.figures)
    display.show_accounts(out, result.figures["ingest"], root)
    display.show_gates(out, result.figures["gates"])
    if as_json:
        click.echo(json.dumps(result.figures))
    if result.refused:
        display.show_refusals(console, result.refused, Layout(root))
        sys.exit(REFUSED)
    display.show_next(out, root, result.release)


def run_with_progress(
    config,
    root: Path,
    console: Console,
    span: str | None = None,
    from_scratch: bool = False,
):
    """Runs the pipeline, a line on the console for each stage."""
    console.print("Loading TFX ...", highlight=False)
    from pipeline import display
    from pipeline.local_runner import SpanRun, run_pipeline
    from pipeline.span_walk import run_span

    progress = display.StageProgress(console)
    try:
        if span is None:
            return run_pipeline(config, root, progress)
        return run_span(config, root, SpanRun(span, from_scratch), progress)[0]
    finally:
        progress.finish()


@cli.command("compile")
@config_options
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The YAML file to write.",
)
@click.option(
    "--image",
    default="tandem:latest",
    show_default=True,
    help="Image that holds Tandem.",
)
@click.option(
    "--pipeline-root",
    default="gs://your-bucket/tandem",
    show_default=True,
    help="Where artifacts go.",
)
@click.option(
    "--serving-root",
    default="/serving",
    show_default=True,
    help="Where releases are pushed; a volume that model servers share.",
)
def compile_command(
    config_path: str,
    overrides: tuple[str, ...],
    output: Path,
    image: str,
    pipeline_root: str,
    serving_root: str,
) -> None:
    """Write the pipeline as a Kubeflow Pipelines v2 spec; needs no cluster."""
    from pipeline.config import load_config

    config = load_config(config_path, overrides)
    if output.suffix not in (".yaml", ".yml"):
        raise click.BadParameter(
            f"`{output}` should end in .yaml.", param_hint="--output"
        )
    from pipeline.kubeflow_runner import compile_pipeline

    compile_pipeline(config, output, image, pipeline_root, serving_root)
    click.echo(f"Wrote {output}. Submit it with the kfp client or in the Kubeflow UI.")


@cli.command()
@root_option
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on."
)
@click.option(
    "--port", default=8500, show_default=True, help="gRPC port; 0 picks a free one."
)
@click.option(
    "--rest-port",
    default=8501,
    show_default=True,
    help="REST port; 0 picks a free one.",
)
@click.option(
    "--http-port",
    default=8080,
    show_default=True,
    help="Port of the HTTP API in front of the models; 0 picks a free one.",
)
@click.option(
    "--ssl-config-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TLS for gRPC, as an SSLConfig of TF Serving.",
)
@click.option(
    "--batching",
    "is_batched",
    is_flag=True,
    help="Join requests as the root's batching.config says.",
)
@click.option(
    "--profiles",
    "redis_url",
    metavar="URL",
    help="Redis that holds users' profiles and recent events for several servers, such "
    "as redis://localhost:6379/0; without it they lie in the root, for one.",
)
@click.option(
    "--log-requests",
    "logged_share",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of the HTTP API's requests of which `tandem skew` may see what the model "
    "was told.",
)
def serve(
    root: Path,
    host: str,
    port: int,
    rest_port: int,
    http_port: int,
    ssl_config_file: Path | None,
    is_batched: bool,
    redis_url: str | None,
    logged_share: float,
) -> None:
    """Serve the releases of a root over TF Serving's API and an HTTP API of its own."""
    from pipeline.http_front import http_front
    from pipeline.layout import Layout
    from serving.release_tables import latest_release
    from serving.server import ModelServer

    serving_root = Layout(root).serving
    release = latest_release(serving_root)
    try:
        http = http_front(root, http_port, redis_url, logged_share)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--profiles") from error
    server = ModelServer(
        serving_root,
        port,
        rest_port=rest_port,
        host=host,
        ssl_config_file=ssl_config_file,
        batching_file=serving_root / "batching.config" if is_batched else None,
        http=http,
    ).start()
    click.echo(
        f"Serving release {release.version} of {serving_root} on {server.target}."
    )
    click.echo(f"  REST: http://{host}:{server.rest_port}/v1/models/recommender")
    if server.http_port is not None:
        click.echo(f"  HTTP API: http://{host}:{server.http_port}/docs")
    for model, versions in sorted(server.models().items()):
        click.echo(f"  {model}: {versions}")
    click.echo(
        f"Next: tandem recommend --root {root} --target {server.target} --user-id "
        f"{release.user_ids()[0]}"
    )
    server.serve_forever()


@cli.command()
@click.option("--user-id", required=True, help="Whom to recommend to.")
@click.option(
    "--target",
    default="127.0.0.1:8500",
    show_default=True,
    help="HOST:PORT of the server.",
)
@click.option(
    "--k", default=10, show_default=True, type=click.IntRange(min=1), help="Items."
)
@click.option("--seed", type=int, help="Repeats an answer; default: a new draw.")
@root_option
@json_option
def recommend(
    user_id: str, target: str, k: int, seed: int | None, root: Path, as_json: bool
) -> None:
    """Ask a server for one user's recommendations."""
    import dataclasses

    from pipeline import display
    from pipeline.ask import ask
    from pipeline.layout import Layout
    from serving.client import RecommendationClient
    from serving.release_tables import latest_release

    tables = latest_release(Layout(root).serving)
    with RecommendationClient(target) as client:
        answer = ask(client, tables, user_id, k, seed)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(answer)))
        return
    console = Console()
    if not answer.is_known:
        console.print(f"User {user_id} is new to release {tables.version}: no history.")
    for name in answer.history[-5:]:
        console.print(f"  met before: {name}", highlight=False)
    title = f"For user {user_id}, release {answer.version}, seed {answer.seed}"
    console.print(display.items_table(title, answer.items))


@cli.command()
@root_option
@click.option("--port", default=6006, show_default=True, help="Port to listen on.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on."
)
def tensorboard(root: Path, port: int, host: str) -> None:
    """Show every run of a root in TensorBoard, until interrupted."""
    from pipeline.layout import Layout

    logs = Layout(root).pipeline
    if not logs.is_dir():
        raise click.ClickException(f"No runs in {root}; make one with `tandem run`.")
    arguments = ["--logdir", str(logs), "--port", str(port), "--host", host]
    os.execv(sys.executable, [sys.executable, "-m", "tensorboard.main", *arguments])


@cli.command()
@root_option
@json_option
def demo(root: Path, as_json: bool) -> None:
    """Fetch MovieLens 100K, train, serve and recommend: everything, in one command."""
    from pipeline.demo import run_demo

    refused = run_demo(root, as_json)
    if refused:
        sys.exit(REFUSED)


if __name__ == "__main__":
    main()
