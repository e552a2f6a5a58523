"""Generated gRPC stubs of protos/bowerbird/v1 (made by the build, not in git)."""
