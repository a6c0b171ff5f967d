"""Launcher for a checkout: ``python cli.py extract ...``."""

from featcache.cli import main

if __name__ == "__main__":
    main()
