"""Evaluation: folds without leaks, scores with intervals, and the record of a run."""
