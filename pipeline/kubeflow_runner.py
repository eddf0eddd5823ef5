"""Where it runs: on Kubeflow Pipelines v2, from a compiled pipeline spec."""

from pathlib import Path

from tfx import v1 as tfx

from pipeline.config import TandemConfig
from pipeline.pipeline import create_pipeline
from pipeline.surroundings import Surroundings


def compile_pipeline(
    config: TandemConfig,
    output: Path,
    image: str,
    pipeline_root: str,
    serving_root: str,
) -> None:
    """Writes the pipeline as a KFP v2 spec; reaches for no cluster and no cloud.

    Args:
        config: with which values; the paths of the log must be reachable by the cluster.
        output: the YAML file to write.
        image: container image that holds Tandem; its schemas folder holds the curated
            schema.
        pipeline_root: where artifacts go, e.g. `gs://bucket/tandem`.
        serving_root: where releases are pushed: a volume that model servers share.

    Raises:
        ConfigError: if the curated schema is missing.
    """
    pipeline = create_pipeline(
        config,
        Surroundings(
            pipeline_root=pipeline_root,
            serving_root=serving_root,
            schema_file=str(config.schema_path()),
            # The log is read on the cluster, later: no fingerprint can be taken here,
            # so runs of one compiled spec share a cache. Compile again for new data.
            input_fingerprint="compiled",
        ),
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    tfx.orchestration.experimental.KubeflowV2DagRunner(
        config=tfx.orchestration.experimental.KubeflowV2DagRunnerConfig(
            default_image=image, use_pipeline_spec_2_1=True
        ),
        output_dir=str(output.parent),
        output_filename=output.name,
    ).run(pipeline)
