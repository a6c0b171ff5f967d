"""Engines: what runs a frozen network over batches of pixels."""
