"""Catalog, runs, studies and the player: shows files to people and stores what they answer."""
