"""Image files to arrays and back: formats, depth, colour and metadata."""
