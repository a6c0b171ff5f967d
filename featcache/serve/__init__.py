"""Pages and programs that ask a model over HTTP, on this machine."""
