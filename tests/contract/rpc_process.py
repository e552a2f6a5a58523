"""A server process for tests: `python -m tests.contract.rpc_process FOLDER`, settings from the environment.

It writes its address to FOLDER/address when ready, FOLDER/called when Detect begins and FOLDER/closed when its service
is closed; Detect waits until FOLDER/release exists if the request names a model.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import grpc

from bowerbird import config
from bowerbird.errors import BowerbirdError
from bowerbird.rpc.server import Server, ServerConfig, serve
from tests.contract.rpc_probe import answer, probe_service


def main(folder: Path) -> int:
    def detect(request: Any, context: grpc.ServicerContext) -> Any:
        (folder / "called").touch()
        while request.model and not (folder / "release").exists():
            time.sleep(0.01)
        return answer(request, context)

    def announce(server: Server) -> None:
        (folder / "address.tmp").write_text(f"{server.target} {server.admin_port}")
        (folder / "address.tmp").rename(folder / "address")

    service = probe_service(detect, default_s=60.0, max_s=60.0, close=(folder / "closed").touch)
    try:
        settings = config.load(ServerConfig, "server")
    except BowerbirdError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return serve(settings, [service], on_ready=announce)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
