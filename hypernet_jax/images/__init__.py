"""Reads and writes image files: formats, bit depth, colour and metadata."""
