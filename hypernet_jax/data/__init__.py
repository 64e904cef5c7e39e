"""Training data: TFDS builders and a Grain pipeline from photographs to batches."""
