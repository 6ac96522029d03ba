"""Dictionaries: sparse coders of a vision model's activations, their training, their quality and their controls."""
