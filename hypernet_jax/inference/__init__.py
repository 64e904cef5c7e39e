"""Arrays in, restored arrays out: backends, tiles, memory, self-ensemble."""
