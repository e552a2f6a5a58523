"""TLS, mutual TLS, and tokens with roles, over real connections."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from bowerbird.errors import ConfigInvalid, PermissionDenied, Unauthenticated, Unavailable
from bowerbird.rpc.clients import DetectorClient, connect
from bowerbird.rpc.server import Method, Role, Server, ServerConfig
from bowerbird.rpc.settings import UNSET
from bowerbird.testing import run_server
from tests.contract.rpc_probe import DETECTOR, Failed, call, open_calls, probe_service, wait_until

SHORT_S = 2.0


@dataclass(frozen=True)
class Files:
    ca: Path
    cert: Path
    key: Path


def issue(folder: Path, authority: trustme.CA, name: str) -> Files:
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    files = Files(folder / f"{name}-ca.pem", folder / f"{name}.pem", folder / f"{name}.key")
    authority.cert_pem.write_to_path(str(files.ca))
    files.cert.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(files.key))
    return files


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_files(tmp_path: Path, authority: trustme.CA) -> Files:
    return issue(tmp_path, authority, "server")


@pytest.fixture
def client_files(tmp_path: Path, authority: trustme.CA) -> Files:
    return issue(tmp_path, authority, "client")


def detect(target: str, **options: object) -> int:
    with connect(target, timeout_s=SHORT_S, **options) as connection:  # type: ignore[arg-type]
        return DetectorClient(connection).detect(b"").width


# ------------------------------------------------------------------------------------------------------------- TLS


def test_calls_travel_encrypted(server_files: Files) -> None:
    """With TLS on, a client that knows the authority gets an answer; one that speaks plainly does not."""
    with run_server([probe_service()], tls_cert=server_files.cert, tls_key=server_files.key) as (target, _):
        assert detect(target, tls_ca=server_files.ca) == 1
        with pytest.raises(Unavailable):
            detect(target)


def test_a_server_of_another_authority_is_not_trusted(server_files: Files, tmp_path: Path) -> None:
    """A certificate that our authority did not sign is refused by the client."""
    stranger = issue(tmp_path, trustme.CA(), "stranger")
    with run_server([probe_service()], tls_cert=server_files.cert, tls_key=server_files.key) as (target, _):
        with pytest.raises(Unavailable):
            detect(target, tls_ca=stranger.ca)
        with pytest.raises(Unavailable):
            detect(target, tls=True)  # the system's authorities do not know it either


def test_mutual_tls_asks_clients_for_their_certificate(
    server_files: Files, client_files: Files, tmp_path: Path
) -> None:
    """Only clients with a certificate of the given authority get in."""
    stranger = issue(tmp_path, trustme.CA(), "stranger")
    settings = {"tls_cert": server_files.cert, "tls_key": server_files.key, "tls_client_ca": client_files.ca}
    with run_server([probe_service()], **settings) as (target, _):
        own = {"tls_cert": client_files.cert, "tls_key": client_files.key}
        assert detect(target, tls_ca=server_files.ca, **own) == 1
        with pytest.raises(Unavailable):
            detect(target, tls_ca=server_files.ca)
        with pytest.raises(Unavailable):
            detect(target, tls_ca=server_files.ca, tls_cert=stranger.cert, tls_key=stranger.key)


def test_renewed_certificates_are_read_without_a_restart(server_files: Files, tmp_path: Path) -> None:
    """New connections see new files; damaged files leave the old certificate in place."""
    with run_server([probe_service()], tls_cert=server_files.cert, tls_key=server_files.key) as (target, _):
        assert detect(target, tls_ca=server_files.ca) == 1
        server_files.cert.write_text("damaged")
        os.utime(server_files.cert, (1e9, 1e9))
        assert detect(target, tls_ca=server_files.ca) == 1
        renewed = issue(tmp_path, trustme.CA(), "renewed")
        key_times = server_files.key.stat().st_atime_ns, server_files.key.stat().st_mtime_ns
        renewed.key.replace(server_files.key)
        renewed.cert.replace(server_files.cert)
        os.utime(server_files.cert, (1e9, 1e9))  # as of the damaged one, which must not count as read
        os.utime(server_files.key, ns=key_times)
        assert detect(target, tls_ca=renewed.ca) == 1
        with pytest.raises(Unavailable):
            detect(target, tls_ca=server_files.ca)


def test_a_certificate_that_is_none_stops_the_start(server_files: Files, tmp_path: Path) -> None:
    """A file that is not PEM, and a key of another certificate, are named at start."""
    other = issue(tmp_path, trustme.CA(), "other")
    text = tmp_path / "text.pem"
    text.write_text("hello")
    for cert, key in ((text, server_files.key), (server_files.cert, text), (server_files.cert, other.key)):
        with pytest.raises(ConfigInvalid, match=r"\[server\]"):
            Server(ServerConfig(port=0, admin_port=-1, tls_cert=cert, tls_key=key), [probe_service()]).start()


def test_client_files_are_checked(tmp_path: Path, client_files: Files) -> None:
    """A missing file, and half of a pair, are errors before anything is sent."""
    with pytest.raises(ConfigInvalid, match="cannot read"):
        connect("localhost:1", tls_ca=tmp_path / "absent.pem")
    with pytest.raises(ConfigInvalid, match="expected both"):
        connect("localhost:1", tls_cert=client_files.cert)


# ---------------------------------------------------------------------------------------------------------- tokens


@pytest.fixture
def tokens_file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "tokens.toml"
    path.write_text(
        "".join(
            f'[[tokens]]\nname = "{role}er"\nsha256 = "{hashlib.sha256(role.encode()).hexdigest()}"\nrole = "{role}"\n'
            for role in ("read", "write", "admin")
        )
    )
    return path


@pytest.mark.parametrize("token", ["read", "write", "admin"])
@pytest.mark.parametrize("needed", ["read", "write", "admin"])
def test_roles_are_enforced_on_the_wire(tokens_file: Path, token: str, needed: Role) -> None:
    """A token gets in where its role is at least the method's; otherwise the error names what is missing."""
    order = ["read", "write", "admin"]
    with run_server([probe_service(role=needed)], auth_tokens_file=tokens_file) as (target, _):
        if order.index(token) >= order.index(needed):
            assert detect(target, token=token) == 1
        else:
            with pytest.raises(PermissionDenied, match=f"needs the role {needed}"):
                detect(target, token=token)


def test_no_token_and_a_wrong_token_are_unauthenticated(tokens_file: Path) -> None:
    """Both are refused with TOKEN_INVALID, and the handler does not run."""
    with run_server([probe_service()], auth_tokens_file=tokens_file) as (target, _):
        for options in ({}, {"token": "guess"}):
            with pytest.raises(Unauthenticated):
                detect(target, **options)
        with pytest.raises(Failed) as caught:
            call(target, metadata=(("authorization", "Basic cmVhZA=="),))
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")


def test_health_needs_no_token(tokens_file: Path) -> None:
    """Probes have no token; what they learn is whether the server is ready."""
    with run_server([probe_service()], auth_tokens_file=tokens_file) as (target, _), connect(target) as connection:
        assert connection.health()


def test_a_damaged_tokens_file_stops_the_start_and_leaves_no_thread(tmp_path: Path) -> None:
    """The server does not come into being, and nothing of it runs on."""
    (tmp_path / "tokens.toml").write_text("tokens = 1")
    before = set(threading.enumerate())
    with pytest.raises(ConfigInvalid, match=r"tokens\.toml"):
        Server(ServerConfig(port=0, admin_port=-1, auth_tokens_file=tmp_path / "tokens.toml"), [probe_service()])
    assert set(threading.enumerate()) <= before


def test_reflection_needs_a_token(tokens_file: Path, channel_to: Callable[[str], grpc.Channel]) -> None:
    """The schema is for readers: what else is served here is nobody else's business."""
    with run_server([probe_service()], auth_tokens_file=tokens_file) as (target, _):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel_to(target))
        ask = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.ServerReflectionInfo(ask, timeout=5))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        ask = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        (reply,) = stub.ServerReflectionInfo(ask, timeout=5, metadata=(("authorization", "Bearer read"),))
        assert DETECTOR in {service.name for service in reply.list_services_response.service}


def test_strangers_take_no_worker(tokens_file: Path, channel_to: Callable[[str], grpc.Channel]) -> None:
    """Calls without a token are refused before their request has come, so they cannot hold the server's threads."""
    with run_server([probe_service()], auth_tokens_file=tokens_file, max_workers=2) as (target, server):
        with open_calls(channel_to(target), f"/{DETECTOR}/Detect", 4) as calls:
            wait_until(lambda: all(call.done() for call in calls))
            assert {call.code() for call in calls} == {grpc.StatusCode.UNAUTHENTICATED}
        assert server.in_flight == 0
        assert detect(target, token="read") == 1


def test_each_method_has_its_own_role(tokens_file: Path) -> None:
    """Within one service a reader may call what reads and not what writes."""
    service = probe_service()
    methods = dict(service.methods) | {"GetModel": Method(1.0, 2.0, "admin")}
    service = dataclasses.replace(service, methods=methods)
    with (
        run_server([service], auth_tokens_file=tokens_file) as (target, _),
        connect(target, token="read") as connection,
    ):
        client = DetectorClient(connection)
        assert client.detect(b"").width == 1
        with pytest.raises(PermissionDenied):
            client.get_model()


def test_without_a_tokens_file_everybody_is_admitted() -> None:
    """Authorisation is off by default; a token that is sent all the same does no harm."""
    assert ServerConfig().auth_tokens_file == UNSET
    with run_server([probe_service(role="admin")]) as (target, _):
        assert detect(target) == detect(target, token="any") == 1
