"""`tandem schema infer`: a first curated schema for the log of a config."""

import shutil
import tempfile
from pathlib import Path

from components.infer_schema import InferredSchema, infer_from_log
from pipeline.config import TandemConfig
from pipeline.layout import Layout
from pipeline.library_log import library_log
from pipeline.root_config import with_absolute_paths, with_replayed


def infer_schema(config: TandemConfig, root: Path) -> InferredSchema:
    """Ingests the log of a config and infers the schema of its labelled rows.

    The file that `schema_file` names is not read; it need not exist yet.

    Args:
        config: with which values; relative paths in it start at `root`.
        root: holds the log, receives `run.log`, and for as long as it takes the rows.

    Raises:
        IngestionError: for what the user can mend.
    """
    layout = Layout(root.resolve())
    layout.root.mkdir(parents=True, exist_ok=True)
    origin = config.name, config.data.events.path
    config = with_replayed(with_absolute_paths(config, layout.root), layout)
    folder = tempfile.mkdtemp(prefix="schema-inference-", dir=layout.root)
    try:
        with library_log(layout.log):
            return infer_from_log(
                config.data,
                config.features,
                folder,
                origin,
                config.beam_pipeline_args,
            )
    finally:
        shutil.rmtree(folder)
