"""Restoring people's images: arrays and files."""
