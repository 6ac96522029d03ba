"""Stages: a config, a plan into chunks, the execution of one chunk, and a finish that writes the artefact."""
