"""Benchmarks of the web side; they run on throw-away servers started by ./run bench."""
