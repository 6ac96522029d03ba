"""Image sets whose truth is known: a generated world of shapes, and crops of two photographs."""
