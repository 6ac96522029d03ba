"""Catalog, runs, studies and the player: shows files to people and stores what they answer."""

__version__ = "0.1.0"
