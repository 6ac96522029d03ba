"""Interfaces: request to objects, one domain call, response. Each module ends with its urlpatterns."""
