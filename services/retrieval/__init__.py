"""The retrieval service: typed items with embeddings and binary codes, stored durably, searched in memory."""
