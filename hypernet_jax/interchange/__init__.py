"""Interchange formats: imports PyTorch checkpoints; exports StableHLO, ONNX, plain networks."""
