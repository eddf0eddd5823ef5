"""Two releases at once: the models.config that serves them under the labels stable and canary.

Run as `python -m serving.canary --root SERVING_ROOT --stable V --canary W [--base-path /serving]`;
it prints the config, for TensorFlow Serving's `--model_config_file` or the embedded server. A
client that asks for `version_label: canary` gets the one, all others should ask for `stable`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.release_layout import MODELS, OPTIONAL_MODELS, list_releases, model_dir

STABLE, CANARY = "stable", "canary"


def canary_config(
    root: Path, stable: int, canary: int, base_path: Path | None = None
) -> str:
    """Returns the config as text.

    Args:
        root: serving root that holds both releases.
        stable: version that most clients get.
        canary: version that is tried.
        base_path: where the server sees the root; None where it is.

    Raises:
        ValueError: if a version is no release of the root, or both are one.
    """
    releases = list_releases(root)
    missing = sorted({stable, canary} - set(releases))
    if missing:
        raise ValueError(
            f"stable and canary should be releases of `{root}`. Received: {missing}; "
            f"it holds {releases}"
        )
    if stable == canary:
        raise ValueError(
            f"stable and canary should differ. Received: {stable} for both; without a "
            "canary, serve the root's own models.config"
        )
    config = model_server_config_pb2.ModelServerConfig()
    for model in (*MODELS, *OPTIONAL_MODELS):
        folders = [model_dir(root, model, version) for version in (stable, canary)]
        if not all(folder.is_dir() for folder in folders):
            continue  # a model that only one of them has cannot be asked by label
        entry = config.model_config_list.config.add()
        entry.name = model
        entry.base_path = str((base_path or root.absolute()) / model)
        entry.model_platform = "tensorflow"
        entry.model_version_policy.specific.versions.extend(sorted((stable, canary)))
        entry.version_labels[STABLE] = stable
        entry.version_labels[CANARY] = canary
    return text_format.MessageToString(config)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the config; returns the exit code: 0, or 2 for bad arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.canary",
        description="Write a models.config that serves two releases under labels.",
    )
    parser.add_argument("--root", type=Path, required=True, help="serving root")
    parser.add_argument("--stable", type=int, required=True, help="version for most")
    parser.add_argument("--canary", type=int, required=True, help="version to try")
    parser.add_argument("--base-path", type=Path, help="where the server sees the root")
    args = parser.parse_args(argv)
    try:
        config = canary_config(args.root, args.stable, args.canary, args.base_path)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(config, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
