"""Work for pipelines that fails; Beam's worker processes import this module and little else."""

import os
import signal
import time
from pathlib import Path

from hypernet_jax.data.shards import CutShard

__all__ = ["Dies", "Fails"]


class Dies(CutShard):
    """Kills the process before the fourth shard, once another one is finished."""

    def __call__(self, item):
        if item[1] == 3:
            end = time.monotonic() + 60
            while not list(Path(self._output).glob("part-*")) and time.monotonic() < end:
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        super().__call__(item)


class Fails:
    """Raises an error at its third item."""

    def __init__(self, error):
        self._error = error

    def setup(self):
        pass

    def __call__(self, item):
        if item == 2:
            raise self._error
