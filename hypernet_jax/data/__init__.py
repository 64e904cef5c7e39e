"""Photographs in, training batches out: TFDS builders and a Grain pipeline."""
