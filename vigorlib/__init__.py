"""VIGOR in PyTorch: one concept of the paper a module (see the book)."""
