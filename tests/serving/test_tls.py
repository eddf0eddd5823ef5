"""Who may talk to a server that speaks TLS, and what its config must hold."""

import shutil

import grpc
import pytest
import trustme
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from serving.config_messages import SSLConfig
from serving.errors import ServerStartError
from serving.server import ModelServer
from serving.tls import read_credentials
from tests.serving.toy_examples import write_examples_model


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def write_config(path, authority, **changes):
    issued = authority.issue_cert("localhost")
    (chain,) = issued.cert_chain_pems
    fields = {
        "server_key": issued.private_key_pem.bytes().decode(),
        "server_cert": chain.bytes().decode(),
    }
    config = SSLConfig(**fields | changes)
    path.write_text(text_format.MessageToString(config))
    return path


def asked(target: str, credentials: grpc.ChannelCredentials | None) -> grpc.StatusCode:
    """Returns how a client is answered; without credentials it speaks plain text."""
    if credentials:
        channel = grpc.secure_channel(target, credentials)
    else:
        channel = grpc.insecure_channel(target)
    request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "people"})
    with channel:
        try:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            stub.GetModelStatus(request, timeout=20)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("is_client_verified", [False, True])
def test_only_those_who_trust_and_are_trusted_are_answered(
    authority, is_client_verified, tmp_path_factory
):
    root = tmp_path_factory.mktemp("root")
    write_examples_model(root / "people" / "1")
    stranger = trustme.CA()
    changes = {}
    if is_client_verified:
        trusted = authority.cert_pem.bytes().decode()
        changes = {"custom_ca": trusted, "client_verify": True}
    config = write_config(root / "ssl.config", authority, **changes)

    def credentials(trusts, shown=None):
        if shown is None:
            return grpc.ssl_channel_credentials(trusts.cert_pem.bytes())
        issued = shown.issue_cert("client")
        return grpc.ssl_channel_credentials(
            trusts.cert_pem.bytes(),
            issued.private_key_pem.bytes(),
            issued.cert_chain_pems[0].bytes(),
        )

    ok, refused = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE
    with ModelServer(root, port=0, host="localhost", ssl_config_file=config) as server:
        assert asked(server.target, credentials(authority, authority)) is ok
        without = asked(server.target, credentials(authority))
        assert without is (refused if is_client_verified else ok)
        by_another = asked(server.target, credentials(authority, stranger))
        assert by_another is (refused if is_client_verified else ok)
        assert asked(server.target, credentials(stranger)) is refused
        assert asked(server.target, None) is refused


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"server_key": ""}, "server_key should be in PEM"),
        ({"server_cert": "/etc/tls/server.pem"}, "server_cert should be in PEM"),
        ({"client_verify": True}, "client_verify needs custom_ca"),
    ],
)
def test_a_config_that_lacks_a_part_is_named(authority, tmp_path, changes, part):
    path = write_config(tmp_path / "ssl.config", authority, **changes)
    with pytest.raises(ServerStartError, match=part) as refused:
        read_credentials(path)
    assert str(path) in str(refused.value)


def test_a_file_that_is_no_config_is_named(tmp_path):
    shutil.copy(__file__, tmp_path / "ssl.config")
    for path in (tmp_path / "ssl.config", tmp_path / "none"):
        with pytest.raises(ServerStartError, match="should be a SSLConfig"):
            read_credentials(path)
