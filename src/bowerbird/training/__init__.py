"""Training, for every network of Bowerbird: data that resumes exactly, the loop, its state. Needs the extra `train`.

What serves never imports this package; the layers of pyproject.toml keep it so (docs/adr/0006).
"""
