"""The messages of TF Serving's config files that its Python package leaves out.

They are read and written as text, where fields go by name; their definitions are
`monitoring_config.proto`, `ssl_config.proto` and `session_bundle_config.proto` of
TF Serving.
"""

from pathlib import Path

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)
from google.protobuf.message import Message

from serving.errors import ServerStartError

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "tensorflow.serving"
_WRAPPERS = "google/protobuf/wrappers.proto"
_INT64, _STRING = ".google.protobuf.Int64Value", ".google.protobuf.StringValue"
_BOOL = ".google.protobuf.BoolValue"

# Message -> its fields in order, each with its type; "*" repeats.
_MESSAGES: dict[str, dict[str, int | str]] = {
    "PrometheusConfig": {"enable": _Field.TYPE_BOOL, "path": _Field.TYPE_STRING},
    "MonitoringConfig": {"prometheus_config": f".{_PACKAGE}.PrometheusConfig"},
    "SSLConfig": {
        "server_key": _Field.TYPE_STRING,
        "server_cert": _Field.TYPE_STRING,
        "custom_ca": _Field.TYPE_STRING,
        "client_verify": _Field.TYPE_BOOL,
    },
    "BatchingParameters": {
        "max_batch_size": _INT64,
        "batch_timeout_micros": _INT64,
        "max_enqueued_batches": _INT64,
        "num_batch_threads": _INT64,
        "thread_pool_name": _STRING,
        "allowed_batch_sizes*": _Field.TYPE_INT64,
        "pad_variable_length_inputs": _Field.TYPE_BOOL,
        "enable_large_batch_splitting": _BOOL,
        "max_execution_batch_size": _INT64,
    },
}


def _classes() -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(
        name="serving/config_messages.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[_WRAPPERS],
    )
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for number, (name, kind) in enumerate(fields.items(), start=1):
            repeats = name.endswith("*")
            field = described.field.add(name=name.rstrip("*"), number=number)
            field.label = _Field.LABEL_REPEATED if repeats else _Field.LABEL_OPTIONAL
            if isinstance(kind, str):
                field.type, field.type_name = _Field.TYPE_MESSAGE, kind
            else:
                field.type = kind
    # A pool of its own: a process that has TF Serving's modules too must not clash.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")
        )
        for name in _MESSAGES
    }


_CLASSES = _classes()
MonitoringConfig = _CLASSES["MonitoringConfig"]
SSLConfig = _CLASSES["SSLConfig"]
BatchingParameters = _CLASSES["BatchingParameters"]


def read_message(kind: type[Message], path: Path) -> Message:
    """Reads a config file.

    Args:
        kind: one of the classes above.
        path: a message of it, as text.

    Raises:
        ServerStartError: if it cannot be read or understood.
    """
    try:
        return text_format.Parse(path.read_text(), kind())
    except (OSError, text_format.ParseError, UnicodeDecodeError) as error:
        raise ServerStartError(
            f"`{path}` should be a {kind.DESCRIPTOR.name} in text form: {error}"
        ) from error
