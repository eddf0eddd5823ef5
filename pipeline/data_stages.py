"""Which stages lead from a log to the data gate, and to the transform behind it."""

from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode

from components.compare_statistics_component import CompareStatistics
from components.feature_statistics import statistics_options
from components.ingest_events_component import IngestEvents
from components.validate_examples_component import ValidateExamples
from pipeline.config import TandemConfig
from pipeline.surroundings import Surroundings


def data_stages(config: TandemConfig, surroundings: Surroundings) -> list[BaseNode]:
    """Returns the stages from the log to the data gate."""
    ingest = IngestEvents(
        settings_json=config.data.model_dump_json(),
        catalog_json=config.features.model_dump_json(),
        input_fingerprint=surroundings.input_fingerprint,
    )
    statistics = tfx.components.StatisticsGen(
        examples=ingest.outputs["impressions"],
        stats_options=statistics_options(
            sample_share=config.gates.data.statistics_sample_share
        ),
    )
    schema = tfx.components.ImportSchemaGen(schema_file=surroundings.schema_file)
    validator = tfx.components.ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    )
    stages = [ingest, statistics, schema, validator]
    settings_json = config.gates.data.model_dump_json()
    compared = {}
    if config.gates.data.drift or config.gates.data.skew:
        comparison = CompareStatistics(
            impressions=ingest.outputs["impressions"],
            statistics=statistics.outputs["statistics"],
            schema=schema.outputs["schema"],
            summary=ingest.outputs["summary"],
            settings_json=settings_json,
            serving_fingerprint=surroundings.serving_fingerprint,
        )
        stages.append(comparison)
        compared = {"comparison": comparison.outputs["comparison"]}
    data_gate = ValidateExamples(
        anomalies=validator.outputs["anomalies"],
        statistics=statistics.outputs["statistics"],
        summary=ingest.outputs["summary"],
        settings_json=settings_json,
        name=config.name,
        **compared,
    )
    return [*stages, data_gate]


def transform_stage(
    config: TandemConfig,
    ingest: BaseNode,
    schema: BaseNode,
    surroundings: Surroundings,
) -> tfx.components.Transform:
    """Returns the stage that analyses the features."""
    # Where training goes on, what is new is new at the end of the log: an item that came
    # with the eval split is to have an id of its own already.
    analysed = ["train", "eval"] if surroundings.span else ["train"]
    return tfx.components.Transform(
        # Impressions hold every labelled row, whatever the answer was: an item that was
        # shown but never liked gets an id of its own too.
        examples=ingest.outputs["impressions"],
        schema=schema.outputs["schema"],
        preprocessing_fn="models.preprocessing.preprocessing_fn",
        custom_config={"catalog": config.features.model_dump_json()},
        materialize=False,
        splits_config=tfx.proto.SplitsConfig(analyze=analysed, transform=[]),
    )
