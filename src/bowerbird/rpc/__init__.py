"""gRPC: how a server starts and stops, how a fault becomes a status, and typed clients.

server    `serve(config, services)`: the one way to start a server
context   the call being answered: id, deadline, cancellation
status    error class <-> gRPC status
clients   typed clients; arrays and plain values in and out
"""

import os

# The transport is chatty about what is no fault: a refused port (we raise), or a child process started while
# calls are in flight (children are started by exec and never use gRPC). The variables win if somebody sets them.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
