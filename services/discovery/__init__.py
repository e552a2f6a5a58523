"""The discovery service: the front door that composes detector, embedder and retrieval."""
