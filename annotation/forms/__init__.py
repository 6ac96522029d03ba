"""Forms: they validate for the human; the database holds the integrity."""
