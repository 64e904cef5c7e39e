"""Work for pipelines that fails; Beam's worker processes import this module and little else."""

import os
import signal

from hypernet_jax.data.shards import CutShard

__all__ = ["Dies", "Fails"]


class Dies(CutShard):
    """Kills the process before the fourth shard."""

    def __call__(self, item):
        if item[1] == 3:
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
