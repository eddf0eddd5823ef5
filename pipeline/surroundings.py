"""What a pipeline is built into: the places and the state that a runner knows."""

import dataclasses
from typing import Any

from tfx import v1 as tfx


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """What a pipeline is built into; each runner gives its own.

    Attributes:
        pipeline_root: where artifacts go.
        serving_root: where releases are pushed.
        schema_file: the curated schema; its path must change when its content does.
        input_fingerprint: changes when the log does; see `sources.input_fingerprint`.
        serving_fingerprint: changes when what was served does; read where skew is
            measured.
        candidates_fingerprint: changes when the deny list does.
        newest_release: what the serving root holds; changes when a push is due again.
        metadata_connection_config: of ML Metadata; None leaves it to the orchestrator.
        last_release_strategy: which release the gates compare with.
        incumbent: version of the release that serves, where that is not the newest that
            a run pushed; 0 where it is.
        checkpoints: folder that a killed training is resumed from by the next run; ""
            where no folder outlives a stage.
        span: the span to test on, "" where the log is split by shares.
        continues: whether training continues the release of an earlier span.
    """

    pipeline_root: str
    serving_root: str
    schema_file: str
    input_fingerprint: str
    serving_fingerprint: str = ""
    candidates_fingerprint: str = ""
    newest_release: str = ""
    metadata_connection_config: Any = None
    last_release_strategy: type = tfx.dsl.experimental.LatestArtifactStrategy
    incumbent: int = 0
    checkpoints: str = ""
    span: str = ""
    continues: bool = False
