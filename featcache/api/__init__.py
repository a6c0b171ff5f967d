"""The Python face: the commands as functions, datasets and embedders as objects.

Everything here is in ``featcache`` itself, which loads it when it is first used.
"""
