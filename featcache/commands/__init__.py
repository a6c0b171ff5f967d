"""Commands: one function each, called by the command line, studies and Python."""
