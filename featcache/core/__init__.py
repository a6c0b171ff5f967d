"""The ground: files that survive a crash, digests, locks, tables of names."""
