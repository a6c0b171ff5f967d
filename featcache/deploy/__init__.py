"""Trained models in use: scorers, bundles, refusal, operating points."""
