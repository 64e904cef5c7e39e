"""Evaluates a restorer on a folder of images: metrics, tables and curves."""
