"""One hypernetwork, from a degradation level to the parameters of a restoration network."""

__version__ = "0.1.0"
