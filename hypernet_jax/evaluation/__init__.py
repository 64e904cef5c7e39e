"""Measuring a restorer on a folder of images: figures, tables, curves."""
