"""The table that an embedder trains on: a row a picture, its labels, and the side of the split on which it stands."""
