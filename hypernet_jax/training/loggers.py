"""Where the numbers of a run go beside metrics.jsonl and TensorBoard."""

import re
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from hypernet_jax.errors import UserError

__all__ = ["Logger", "make_loggers", "mlflow_name", "register_logger"]

# Tag of MLflow's runs by which a run that resumes finds its own.
_WORKDIR = "hypernet_jax.workdir"


class Logger(Protocol):
    """Takes the scalars of some steps."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Takes scalars by name; steps never decrease."""
        ...

    def close(self) -> None:
        """Ends the log, as the run ends or is stopped."""
        ...


def mlflow_name(name: str) -> str:
    """A scalar's name as MLflow allows it, without the signs of levels with parts."""
    return re.sub(r"[^\w\-./ ]", "_", name)


class MlflowLogger:
    """A run of MLflow; the server is that of MLFLOW_TRACKING_URI.

    The run belongs to the experiment MLFLOW_EXPERIMENT_NAME, "hypernet_jax" by default. A run that
    resumes continues its own. A server that is lost later costs a warning, not the run.

    Args:
      workdir: of the run.
      config: fields of its config by their dotted names.
      resumed: whether the run resumes.

    Raises:
      UserError: if mlflow is not installed or its server does not answer.
    """

    def __init__(self, workdir: str, config: Mapping[str, Any], *, resumed: bool):
        try:
            import mlflow
        except ModuleNotFoundError:
            raise UserError(
                "config.loggers asks for mlflow, which is not installed: "
                "pip install 'hypernet-jax[mlflow]'."
            ) from None
        self._mlflow, self._warned = mlflow, False
        try:
            self._client = mlflow.MlflowClient()
            self._run = self._found(workdir) if resumed else None
            if self._run is None:
                self._run = self._created(workdir, config)
        except mlflow.exceptions.MlflowException as error:
            raise UserError(
                f"MLflow at {mlflow.get_tracking_uri()} does not answer "
                f"({str(error).splitlines()[0][:200]}); start its server, or set "
                "MLFLOW_TRACKING_URI."
            ) from None

    def _experiment(self) -> str:
        name = self._mlflow.environment_variables.MLFLOW_EXPERIMENT_NAME.get() or "hypernet_jax"
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else self._client.create_experiment(name)

    def _found(self, workdir: str) -> str | None:
        runs = self._client.search_runs(
            [self._experiment()],
            filter_string=f"tags.`{_WORKDIR}` = '{workdir}'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        if not runs:
            return None
        run = runs[0].info.run_id
        self._client.update_run(run, status="RUNNING")
        return run

    def _created(self, workdir: str, config: Mapping[str, Any]) -> str:
        run = self._client.create_run(
            self._experiment(), tags={_WORKDIR: workdir}, run_name=workdir.rstrip("/")[-250:]
        )
        for name, value in config.items():
            self._client.log_param(run.info.run_id, name, str(value)[:500])
        return run.info.run_id

    def write(self, step: int, values: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        metrics = [
            self._mlflow.entities.Metric(mlflow_name(name), float(value), now, step)
            for name, value in values.items()
        ]
        self._try(lambda: self._client.log_batch(self._run, metrics=metrics))

    def close(self) -> None:
        self._try(lambda: self._client.set_terminated(self._run))

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except self._mlflow.exceptions.MlflowException as error:
            if not self._warned:
                reason = str(error).splitlines()[0][:200]
                warnings.warn(
                    f"MLflow did not take everything; training continues: {reason}", stacklevel=2
                )
            self._warned = True


_Make = Callable[..., Logger]
_LOGGERS: dict[str, _Make] = {"mlflow": MlflowLogger}


def register_logger(name: str, make: _Make) -> None:
    """Adds a logger to those that `config.loggers` may name.

    Args:
      name: not taken yet.
      make: (workdir, config by dotted names, resumed=...) -> logger.
    """
    if name in _LOGGERS:
        raise UserError(f"There is a logger {name!r} already; choose another name.")
    _LOGGERS[name] = make


def make_loggers(
    names: tuple[str, ...], workdir: str, config: Mapping[str, Any], *, resumed: bool
) -> list[Logger]:
    """The loggers of a run, by their names.

    Raises:
      UserError: for an unknown name, or a logger that cannot start.
    """
    for name in names:
        if name not in _LOGGERS:
            raise UserError(f"Unknown logger {name!r}; choose from {', '.join(_LOGGERS)}.")
    return [_LOGGERS[name](workdir, config, resumed=resumed) for name in names]
