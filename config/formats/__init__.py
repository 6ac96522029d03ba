"""How numbers are written, by language: beside what Django knows of each."""
