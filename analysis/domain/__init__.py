"""What the pages and commands of analysis call."""
