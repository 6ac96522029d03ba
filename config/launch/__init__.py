"""What `./run` does, in the standard library alone: it must work before anything is installed."""
