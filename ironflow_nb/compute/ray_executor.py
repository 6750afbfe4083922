"""Ray as an executor: each call is a task of the Ray that this process is connected to."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

T = TypeVar("T")


class RayExecutor(Executor):
    """Performs calls as tasks of Ray: ``@step(executor=iron.RayExecutor(num_gpus=1))``, after ``ray.init(...)``.

    A task that is cancelled ends, with its process if it has begun. Ray repeats no task whose worker died; that is for
    ``retries=`` of the step, unless `max_retries` says otherwise.
    """

    def __init__(self, **options: Any) -> None:
        """Take the options of the tasks, as `ray.remote` has them: `num_cpus`, `num_gpus`, `resources`, `max_retries`.

        Raises:
            ModuleNotFoundError: Ray is not installed: ``pip install 'ironflow-nb[ray]'``.
            ValueError: Ray knows no such option.
        """
        try:
            import ray
        except ModuleNotFoundError as error:
            message = "iron.RayExecutor needs Ray: pip install 'ironflow-nb[ray]'"
            raise ModuleNotFoundError(message, name=error.name) from None
        self._ray = ray
        self._options = {"max_retries": 0, **options}
        self._task: Any = ray.remote(_call)
        self._task.options(**self._options)  # which looks at them
        self._is_shut_down = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Begin a task, and return its future.

        Raises:
            RuntimeError: this process is not connected to Ray, or the executor was shut down.
        """
        if self._is_shut_down:
            raise RuntimeError("the RayExecutor was shut down, and takes no more calls")
        if not self._ray.is_initialized():  # else it would begin a cluster by itself, which opens ports
            raise RuntimeError("this process is not connected to Ray: call ray.init(...) first")
        title = getattr(fn, "__name__", type(fn).__name__)
        future = _TaskFuture[T](self._ray, self._task.options(name=title, **self._options).remote(fn, args, kwargs))
        future.follow()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 -- as Python has it
        """Take no more calls; those that have begun go on."""
        self._is_shut_down = True


class _TaskFuture(Future[T]):
    """The result of a task. To cancel it is to end the task, whether it has begun or not."""

    def __init__(self, ray: Any, reference: Any) -> None:
        super().__init__()
        self._ray, self._reference = ray, reference

    def follow(self) -> None:
        """Get the result of the task when it is there."""
        self._reference.future().add_done_callback(self._take)

    def _take(self, task: Future[T]) -> None:
        if not self.set_running_or_notify_cancel():
            return
        error = task.exception()
        if error is None:
            self.set_result(task.result())
        else:
            self.set_exception(error)

    def cancel(self) -> bool:
        if not self.done():
            self._ray.cancel(self._reference, force=True)
        return super().cancel()


def _call(fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    """Perform the call in a worker."""
    return fn(*args, **kwargs)
