"""Annotations: words about pictures, out of noisy text, each with a calibrated score. See `docs/training.md`."""
