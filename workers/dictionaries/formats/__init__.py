"""Other libraries' files: one module per format, each a reader into sparse coders; exports (docs/guides/formats.md)."""
