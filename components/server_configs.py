"""What a model server is told of a serving root, in the form of TF Serving's files."""

import os
from collections.abc import Sequence
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from components.push_settings import PushSettings
from serving.config_messages import BatchingParameters, MonitoringConfig
from serving.metrics import DEFAULT_PATH as PROMETHEUS_PATH
from serving.metrics import MONITORING_CONFIG
from serving.model_config import MODELS_CONFIG
from serving.release_layout import MODELS

BATCHING_CONFIG = "batching.config"
CONFIGS = (MODELS_CONFIG, BATCHING_CONFIG, MONITORING_CONFIG)


def server_configs(
    serving_root: Path, settings: PushSettings, models: Sequence[str] = MODELS
) -> dict[str, str]:
    """Returns the content of each of `CONFIGS`, by its name.

    They name no version (the policy is "the latest"), so that they are the same for
    every release of the same models.

    Args:
        serving_root: the root they describe.
        settings: what to tell the model server.
        models: of the newest release.
    """
    base = Path(settings.base_path or serving_root.absolute())
    config = model_server_config_pb2.ModelServerConfig()
    for model in models:
        entry = config.model_config_list.config.add()
        entry.name = model
        entry.base_path = str(base / model)
        entry.model_platform = "tensorflow"
        entry.model_version_policy.latest.num_versions = 1
    batching = BatchingParameters()
    batching.max_batch_size.value = settings.max_batch_size
    batching.batch_timeout_micros.value = settings.batch_timeout_micros
    batching.max_enqueued_batches.value = 100 * (os.cpu_count() or 1)
    batching.num_batch_threads.value = os.cpu_count() or 1
    # Histories differ in length from request to request.
    batching.pad_variable_length_inputs = True
    monitoring = MonitoringConfig()
    monitoring.prometheus_config.enable = True
    monitoring.prometheus_config.path = PROMETHEUS_PATH
    messages = {
        MODELS_CONFIG: config,
        BATCHING_CONFIG: batching,
        MONITORING_CONFIG: monitoring,
    }
    return {
        name: text_format.MessageToString(message) for name, message in messages.items()
    }
