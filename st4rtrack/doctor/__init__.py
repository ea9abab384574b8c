"""Diagnostics: hardware and packages, models that fit this machine, and time of each pipeline stage."""
