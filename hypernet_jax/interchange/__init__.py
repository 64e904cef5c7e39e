"""Trade with other systems: PyTorch checkpoints in; StableHLO, ONNX and plain networks out."""
