"""Bundles: one file that carries a trained model and proves itself on arrival."""
