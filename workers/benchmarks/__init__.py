"""What ./run bench measures of the core."""
