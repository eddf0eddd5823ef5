"""With which key and certificates does the server speak TLS? TF Serving's SSLConfig."""

from pathlib import Path

import grpc

from serving.config_messages import SSLConfig, read_message
from serving.errors import ServerStartError


def read_credentials(path: Path) -> grpc.ServerCredentials:
    """Reads what `--ssl-config-file` names.

    Args:
        path: an SSLConfig in text form, as TF Serving's `--ssl_config_file` takes:
            `server_key`, `server_cert`, `custom_ca` and `client_verify`, the first three
            in PEM.

    Raises:
        ServerStartError: if the file cannot be understood, or lacks a part.
    """
    config = read_message(SSLConfig, path)
    for field in ("server_key", "server_cert"):
        if "-----BEGIN " not in getattr(config, field):
            raise ServerStartError(
                f"`{path}`: {field} should be in PEM, as `-----BEGIN ...`. Received: "
                f"{len(getattr(config, field))} characters without such a line"
            )
    if config.client_verify and not config.custom_ca:
        raise ServerStartError(
            f"`{path}`: client_verify needs custom_ca, whose certificates clients show"
        )
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        config.custom_ca.encode() or None,
        config.client_verify,
    )
