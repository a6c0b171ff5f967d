"""Heat maps as pictures."""
