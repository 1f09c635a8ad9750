"""Comparing runs: resampling, intervals, figures and the report, from predictions alone."""
