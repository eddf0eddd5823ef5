"""`tandem doctor`: can this machine run Tandem; which servers can load a release?"""

import json
import sys
from pathlib import Path

import click
from rich.console import Console

from pipeline.cli_options import FAILED, json_option, root_option


@click.command()
@root_option
@click.option(
    "--release",
    "release",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Check which servers can load a release, and not this machine: the newest of a "
    "root folder or a serving root, or that of a folder releases/VERSION.",
)
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="IMAGE",
    help="With --release: a server image such as tensorflow/serving:2.20.0-gpu, "
    "me/serving:2.20.0+scann where ScaNN's ops are in it, or `embedded`; may be given "
    "more than once. Without it: the embedded server and the stock images.",
)
@json_option
def doctor(
    root: Path, release: Path | None, images: tuple[str, ...], as_json: bool
) -> None:
    """Check that this machine can run Tandem, or which servers can load a release."""
    import dataclasses

    if images and release is None:
        raise click.BadParameter("goes with --release.", param_hint="--image")
    console = Console(stderr=as_json)

    def show(diagnosis) -> None:
        mark = "[green]ok[/green]  " if diagnosis.passed else "[red]fail[/red]"
        console.print(f"{mark} {diagnosis.name}: {diagnosis.seen}", highlight=False)
        if diagnosis.mend:
            console.print(f"     {diagnosis.mend}", highlight=False)

    if release is None:
        from pipeline.doctor import examine

        diagnoses = examine(root, show)
    else:
        from pipeline.release_check import examine_release

        try:
            diagnoses = examine_release(release, images, show)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--image") from error
    passed = all(diagnosis.passed for diagnosis in diagnoses)
    if as_json:
        checks = [dataclasses.asdict(diagnosis) for diagnosis in diagnoses]
        click.echo(json.dumps({"passed": passed, "checks": checks}))
    sys.exit(0 if passed else FAILED)
