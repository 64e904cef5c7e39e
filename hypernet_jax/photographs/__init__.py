"""Restoring image files and folders of them."""
