"""Measurements, printed and never asserted: `make bench`, or ``python -m benchmarks [NAME ...]`` for some."""
