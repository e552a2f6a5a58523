"""The `bowerbird` command: starts and stops services, and talks to them over gRPC as any other client."""

from bowerbird.cli.app import main

__all__ = ["main"]
