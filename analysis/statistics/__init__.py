"""Statistics of answers: plain numpy and scipy on arrays of codes, no Django, no models."""
