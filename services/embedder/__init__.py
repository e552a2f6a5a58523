"""The embedder service: pictures or regions in, vectors and binary codes out."""
