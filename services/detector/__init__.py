"""The detector service: pictures in, objects out."""
