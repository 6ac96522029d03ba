"""Turns answers into numbers; reads annotation, never the reverse."""
