"""Conversion of published open models into the files of zoo/, and fitting of the binary codes."""
