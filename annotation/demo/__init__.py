"""The demo: shapes world taken through the same commands and runs that real images take."""
