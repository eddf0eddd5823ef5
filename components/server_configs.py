"""What a model server is told of a serving root, in the form of TF Serving's files."""

import os
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from components.push_settings import PushSettings
from serving.model_config import MODELS_CONFIG
from serving.release_layout import MODELS

BATCHING_CONFIG = "batching.config"
MONITORING_CONFIG = "monitoring.config"
CONFIGS = (MODELS_CONFIG, BATCHING_CONFIG, MONITORING_CONFIG)


def server_configs(serving_root: Path, settings: PushSettings) -> dict[str, str]:
    """Returns the content of each of `CONFIGS`, by its name.

    They name no version (the policy is "the latest"), so that they are the same for
    every release.

    Args:
        serving_root: the root they describe.
        settings: what to tell the model server.
    """
    base = Path(settings.base_path or serving_root.absolute())
    config = model_server_config_pb2.ModelServerConfig()
    for model in MODELS:
        entry = config.model_config_list.config.add()
        entry.name = model
        entry.base_path = str(base / model)
        entry.model_platform = "tensorflow"
        entry.model_version_policy.latest.num_versions = 1
    batching = {
        "max_batch_size": settings.max_batch_size,
        "batch_timeout_micros": settings.batch_timeout_micros,
        "max_enqueued_batches": 100 * (os.cpu_count() or 1),
        "num_batch_threads": os.cpu_count() or 1,
    }
    # tensorflow-serving-api has no protos for the next two: session_bundle_config.proto
    # and monitoring_config.proto of TF Serving define them.
    return {
        MODELS_CONFIG: text_format.MessageToString(config),
        BATCHING_CONFIG: "".join(
            f"{name} {{ value: {value} }}\n" for name, value in batching.items()
        )
        # Histories differ in length from request to request.
        + "pad_variable_length_inputs: true\n",
        MONITORING_CONFIG: "prometheus_config {\n  enable: true\n"
        '  path: "/monitoring/prometheus/metrics"\n}\n',
    }
