"""How extraction in parts ends: images lost, disks full, two calls at once, killed."""
