"""Batch jobs over the same engines as the services."""
