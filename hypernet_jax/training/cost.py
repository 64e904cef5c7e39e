"""What a training step costs: arithmetic, memory, and the share of the device's peak."""

import re
from dataclasses import dataclass
from typing import Any

import jax

__all__ = ["StepCost", "peak_of", "step_cost"]

# Peak of dense bfloat16 arithmetic in FLOP/s, by the start of JAX's name of the device; from
# the makers' data sheets. The first entry that fits counts. Of float32 the peak is lower: what is
# computed in it cannot reach 1.
_PEAKS = {
    "NVIDIA H200 NVL": 835e12,
    "NVIDIA H200": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H100": 989e12,
    "NVIDIA A100": 312e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA L40": 181e12,
    "NVIDIA L4": 121e12,
    "TPU v6": 918e12,
    "TPU v5 lite": 197e12,  # v5e
    "TPU v5e": 197e12,
    "TPU v5": 459e12,  # v5p
    "TPU v4": 275e12,
    "TPU v3": 61.5e12,  # of a core, which is a device
}


def peak_of(kind: str) -> float | None:
    """The peak in FLOP/s of a device by JAX's name of its kind, or None."""
    # An L4 is not the beginning of an L40, but a v5 is that of a v5p.
    fits = (peak for name, peak in _PEAKS.items() if re.match(f"{name}(?![0-9A-Z])", kind))
    return next(fits, None)


@dataclass(frozen=True)
class StepCost:
    """What one step costs.

    Attributes:
      flops: of all devices together, as XLA counts them.
      bytes_per_device: parameters, state, batch and intermediate results, at most.
      peak: FLOP/s of all devices together; None where the device is unknown.
    """

    flops: float
    bytes_per_device: int
    peak: float | None

    def rates(self, steps_per_second: float) -> dict[str, float]:
        """tflops_per_second, and mfu (model FLOPs utilisation, 0 to 1) where the peak is known.

        With config.remat both count what is computed twice.
        """
        rate = self.flops * steps_per_second
        rates = {"tflops_per_second": rate / 1e12}
        return rates if self.peak is None else rates | {"mfu": rate / self.peak}


def step_cost(step: Any, *arguments: Any) -> StepCost:
    """The cost of a jitted step for these arguments, whose compiled program it leaves in place.

    Args:
      step: what `make_train_step` returns.
      arguments: state and batch, on their devices.
    """
    compiled = step.lower(*arguments).compile()
    memory = compiled.memory_analysis()
    held = 0
    if memory is not None:
        held = (
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            - memory.alias_size_in_bytes
            + memory.temp_size_in_bytes
        )
    devices = jax.device_count()
    peak = peak_of(jax.devices()[0].device_kind)
    flops = (compiled.cost_analysis() or {}).get("flops", 0.0)
    return StepCost(flops * devices, held, None if peak is None else peak * devices)
