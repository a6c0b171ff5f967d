"""``featcache backbone``: networks from elsewhere."""
