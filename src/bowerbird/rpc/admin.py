"""The admin port: metrics and plain health over HTTP, for scrapers and for people with curl.

/metrics     Prometheus text, or OpenMetrics where the scraper asks for it
/readyz /livez /startupz     200 or 503
"""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client.exposition import choose_encoder

from bowerbird import telemetry
from bowerbird.errors import ConfigInvalid
from bowerbird.rpc.health import LIVENESS, STARTUP, Health

_PROBES = {"/readyz": "", "/livez": LIVENESS, "/startupz": STARTUP}
_log = telemetry.get_logger("bowerbird.rpc.admin")


class AdminServer:
    """Serves from construction until `close`.

    Attributes:
        port: the one it got.
    Raises:
        ConfigInvalid: the port is taken.
    """

    def __init__(self, host: str, port: int, health: Health) -> None:
        try:
            self._http = _Http((host, port), _handler_class(health))
        except OSError as error:
            raise ConfigInvalid(
                f"[server] admin_port: cannot listen on {host}:{port} ({error.strerror}); "
                "stop the process that has it, or choose another port (0: any, -1: none)"
            ) from error
        self.port: int = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="admin", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering and free the port."""
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)


def _handler_class(health: Health) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # seconds a silent connection may hold its thread

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._reply(200, encode(telemetry.REGISTRY), content_type)
            elif path in _PROBES:
                serving = health.is_serving(_PROBES[path])
                self._reply(200 if serving else 503, b"ok\n" if serving else b"not serving\n")
            else:
                self._reply(404, b"try /metrics, /readyz, /livez or /startupz\n")

        def _reply(self, code: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
            _log.debug(format, *args)

    return Handler
