"""Start all services in one process and wait until they are ready.

State, log and indexes live in one directory: --data, else $BOWERBIRD_HOME, else ./.bowerbird. Commands run from here
find the services by it.

examples:
  bowerbird up                        port 50051, data in ./.bowerbird
  bowerbird up --data ~/birds --port 0
  bowerbird up --config bowerbird.toml --foreground
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tomllib
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from bowerbird import config
from bowerbird.cli import processes
from bowerbird.cli.options import Options
from bowerbird.cli.outcome import EXIT_OK, CommandFailed
from bowerbird.cli.processes import Home, Running
from bowerbird.rpc.settings import ServerConfig

START_TIMEOUT_S = 120.0
PROBE_TIMEOUT_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `up`."""
    parser.add_argument("--data", metavar="DIR", help="where state, log and indexes live")
    parser.add_argument("--host", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, metavar="N", help="gRPC port, 0: any free one (default 50051)")
    parser.add_argument("--admin-port", type=int, metavar="N", help="port of metrics (default 9090, or any free one)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file of settings")
    parser.add_argument("--foreground", action="store_true", help="stay in this terminal; Ctrl-C stops the services")


def run(arguments: Options) -> int:
    """Exit code 0 when the services are ready; that of the services with --foreground."""
    home = Home(processes.home_directory(arguments.data))
    running = start(arguments, home)
    print(f"ready at {running.target} (process {running.pid})")
    print(f"metrics  http://{running.admin}/metrics")
    print(f"log      {running.log}")
    print("stop     bowerbird down")
    return EXIT_OK


def start(arguments: Options, home: Home) -> Running:
    """The services, started and ready; with --foreground this process becomes them, and nothing is returned.

    Raises:
        CommandFailed: they run already, cannot start, or are not ready in time.
        ConfigInvalid: the configuration is not valid.
    """
    lock = home.acquire()
    if lock is None:
        running = home.running()
        where = f"process {running.pid} at {running.target}" if running else "starting"
        raise CommandFailed(f"services run already from {home.directory} ({where}); stop them with `bowerbird down`")
    try:
        launch = plan(arguments, home)
        if arguments.foreground:
            home.record(launch.running(os.getpid(), home))
            sys.stdout.flush()
            os.execvpe(sys.executable, processes.service_command(), launch.environment)  # noqa: S606
        child = processes.spawn(home, lock, launch.environment)
        started = launch.running(child.pid, home)
        home.record(started)
    finally:
        os.close(lock)
    wait_ready(child, launch, home)
    return started


@dataclass(frozen=True)
class Launch:
    """Where the services will listen, and the environment that tells them so."""

    target: str
    admin: str
    environment: dict[str, str]

    def running(self, pid: int, home: Home) -> Running:
        """The state to record for this process."""
        return Running(pid, self.target, self.admin, str(home.log_file))


def plan(arguments: Options, home: Home) -> Launch:
    """Ports and environment out of options, configuration file and environment.

    Raises:
        ConfigInvalid: the configuration is not valid.
        CommandFailed: the gRPC port is taken.
    """
    environment = dict(os.environ)
    if arguments.config:
        environment[config.CONFIG_FILE_VARIABLE] = str(arguments.config.absolute())
    server = config.load(ServerConfig, "server", environ=environment)
    host = arguments.host or server.host
    port = processes.choose_port(host, server.port if arguments.port is None else arguments.port)
    admin_port = _choose_admin_port(host, server.admin_port if arguments.admin_port is None else arguments.admin_port)
    for section, setting, value in _local_settings(home):
        if setting not in _read_table(environment, section):
            environment.setdefault(f"{config.PREFIX}{section}_{setting}".upper(), value)
    if arguments.data:
        environment["BOWERBIRD_RETRIEVAL_DATA_DIR"] = str(home.directory / "retrieval")
    environment["BOWERBIRD_SERVER_HOST"] = host
    environment["BOWERBIRD_SERVER_PORT"] = str(port)
    environment["BOWERBIRD_SERVER_ADMIN_PORT"] = str(admin_port)
    reached = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 (compared, not listened on)
    return Launch(f"{reached}:{port}", f"{reached}:{admin_port}" if admin_port >= 0 else "", environment)


def wait_ready(child: subprocess.Popen[bytes], launch: Launch, home: Home) -> None:
    """Return when the services say that they are ready.

    Raises:
        CommandFailed: the process ended, or is not ready in time; the message shows the end of its log.
    """
    if not launch.admin:
        raise CommandFailed(
            "the services were started, but their admin port is off (-1), so `up` cannot see when they are ready; "
            "look with `bowerbird status`"
        )
    done = processes.wait_until(lambda: child.poll() is not None or is_ready(launch.admin), START_TIMEOUT_S)
    if child.poll() is not None:
        raise CommandFailed(
            f"the services ended at start with code {child.returncode}; the end of {home.log_file}:\n{home.log_tail()}"
        )
    if not done:
        raise CommandFailed(
            f"the services are not ready after {START_TIMEOUT_S:.0f} s but still run (stop them with "
            f"`bowerbird down`); the end of {home.log_file}:\n{home.log_tail()}"
        )


def _local_settings(home: Home) -> list[tuple[str, str, str]]:
    """Section, setting and value of what suits a person at a terminal; file and environment override it."""
    return [
        ("server", "drain_delay_s", "0"),
        ("server", "log_format", "text"),
        ("retrieval", "data_dir", str(home.directory / "retrieval")),
    ]


def _read_table(environment: dict[str, str], section: str) -> dict[str, object]:
    """A table of the configuration file, which `config.load` has checked already; empty without one."""
    file = environment.get(config.CONFIG_FILE_VARIABLE)
    table = tomllib.loads(Path(file).read_text()).get(section, {}) if file else {}
    return dict(table)


def _choose_admin_port(host: str, port: int) -> int:
    """The port if it is free, else any free one: nobody depends on its number on one machine; -1 stays off."""
    if port < 0:
        return port
    try:
        return processes.choose_port(host, port)
    except CommandFailed:
        return processes.choose_port(host, 0)


def is_ready(admin: str) -> bool:
    """True when the services with this admin address say that they are ready."""
    try:
        with urllib.request.urlopen(f"http://{admin}/readyz", timeout=PROBE_TIMEOUT_S) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except OSError:  # nobody listens yet, or 503
        return False
