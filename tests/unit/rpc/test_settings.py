"""Server settings are validated whole, at start."""

from pathlib import Path

import pytest

from bowerbird import config
from bowerbird.errors import ConfigInvalid
from bowerbird.rpc.settings import ServerConfig


@pytest.mark.parametrize(
    "settings",
    [
        {"port": -1},
        {"port": 70000},
        {"admin_port": -2},
        {"max_workers": 0},
        {"max_concurrent_rpcs": 0},
        {"max_message_bytes": 0},
        {"drain_delay_s": -1.0},
        {"grace_s": 1e9},
        {"connection_age_s": 0.0},
        {"heartbeat_s": 0.0},
        {"heartbeat_s": float("inf")},
        {"heartbeat_s": float("nan")},
        {"connection_age_s": float("inf")},
        {"connection_age_s": 1e9},
        {"max_message_bytes": 2**31},
        {"max_workers": 10**6},
        {"log_level": "loud"},
        {"log_format": "xml"},
        {"access_log": "some"},
        {"host": ""},
        {"auth_tokens_file": Path("/nowhere/tokens.toml")},
        {"tls_cert": Path(__file__)},
        {"tls_client_ca": Path(__file__)},
    ],
    ids=str,
)
def test_a_setting_out_of_range_is_named(settings: dict[str, object]) -> None:
    """Each wrong value is refused with the name of its setting."""
    name = next(iter(settings))
    with pytest.raises(ConfigInvalid, match=r"\[server\] (tls_key|" + name + ")"):
        ServerConfig(**settings)  # type: ignore[arg-type]


def test_the_log_can_say_what_protects_the_port() -> None:
    """Each defence shows as it is set; an empty variable leaves it off, and shows so."""
    here = Path(__file__)
    assert ServerConfig().defences == {"tls": "off", "tokens": "off"}
    assert ServerConfig(tls_cert=here, tls_key=here).defences["tls"] == "on"
    assert ServerConfig(tls_cert=here, tls_key=here, tls_client_ca=here).defences["tls"] == "mutual"
    assert ServerConfig(auth_tokens_file=here).defences["tokens"] == "on"
    empty = {"BOWERBIRD_SERVER_AUTH_TOKENS_FILE": "", "BOWERBIRD_SERVER_TLS_CERT": ""}
    assert config.load(ServerConfig, "server", environ=empty).defences == ServerConfig().defences


def test_settings_come_from_variables() -> None:
    """The section is called server, in the file and in variable names."""
    loaded = config.load(
        ServerConfig, "server", environ={"BOWERBIRD_SERVER_PORT": "0", "BOWERBIRD_SERVER_GRACE_S": "2"}
    )
    assert (loaded.port, loaded.grace_s) == (0, 2.0)


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "127.0.0.1:7"), ("::1", "[::1]:7"), ("localhost", "localhost:7")]
)
def test_addresses_are_written_as_the_transport_wants_them(host: str, address: str) -> None:
    """IPv6 goes into brackets, names and IPv4 do not."""
    assert ServerConfig(host=host).address(7) == address
