"""Notifications of the ends of runs: functions that are called after a run has ended, at least once, with retries.

That they are to be called is written in the commit that ends the run, so a death in between loses none; any process
that defines them calls them then.
"""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from ironflow_nb.core.identity import RunId, step_name
from ironflow_nb.core.option_values import a_name, one_of
from ironflow_nb.core.status import EndOfRun
from ironflow_nb.errors import DefinitionError, DuplicateName, EngineClosed, IronflowError, JournalError
from ironflow_nb.execution import CURRENT, REGISTRY, Engine, call_body, logger, own_runs
from ironflow_nb.handles.run import Run
from ironflow_nb.journal.ports import QueueItem, Select
from ironflow_nb.triggers.claims import claim, failed, give_back, is_last, settle
from ironflow_nb.triggers.trigger_rows import ReplacedItem
from ironflow_nb.values.failures import store_failure

F = TypeVar("F", bound=Callable[[Run[Any]], object])

LEASE_S: Final = 300.0
"""The seconds that one call may take before another process makes it, too."""


def on(event: str, *, name: str | None = None) -> Callable[[F], F]:
    """Have a function called with each `Run` that ends so: ``@iron.on("run.failed")``.

    Events: ``run.completed``, ``run.failed``, ``run.cancelled``, ``run.paused``, ``run.interrupted``. They are those of
    runs that this process ends while the function is defined, of flows and graphs, and not of child runs. A call that
    raises is made again, five times in all; then it is a dead letter, which `work` lists. It is made at least once:
    again if the process dies in it, by any process that defines the function. Calls of one function come one by one.

    A function of the same name, as of a cell that is run again, takes the place of the one before.

    Args:
        event: the event.
        name: the name under which it is recorded; by default the qualified name of the function.

    Raises:
        ValueError: there is no such event.
        DefinitionError: it is no function of one run.
        DuplicateName: it is a lambda without a name.
    """
    checked = one_of(EndOfRun, event, "event")

    def register(function: F) -> F:
        REGISTRY.define(RunHandler(checked, function, name))
        return function

    return register


class RunHandler:
    """A function that is called with each run that ends in that way; `kind` is the event."""

    wanted_events: Final[frozenset[str]] = frozenset()

    def __init__(self, event: EndOfRun, function: Callable[[Run[Any]], object], name: str | None) -> None:
        if not callable(function):
            raise DefinitionError(f"iron.on({event.value!r}) takes a function of a run, not {function!r}")
        try:
            inspect.signature(function).bind(None)
        except (TypeError, ValueError) as error:
            raise DefinitionError(f"{function!r} is called with the run that has ended: {error}") from None
        own_name = getattr(function, "__qualname__", type(function).__qualname__)
        if name is None and "<lambda>" in own_name:
            raise DuplicateName(
                f'every lambda has the same name; give it its own: iron.on({event.value!r}, name="...")', name=own_name
            )
        self.kind = event.value
        self.name = a_name(step_name(getattr(function, "__module__", None), own_name) if name is None else name)
        self._function = function

    def subscribe(self, engine: Engine) -> None:
        """See `StartableDefinition`: there are no emitted events that it wants."""

    def start_due(self, engine: Engine, item: QueueItem) -> bool:
        """Claim a call and make it on a thread of its own; another process may be faster. See `StartableDefinition`."""
        if not _is_own(engine, item):
            return False
        claimed = claim(engine, item, lease_s=LEASE_S)
        if claimed is not None:
            try:
                call = partial(self._call, engine, claimed, failures=(BaseException,))
                engine.threads.spawn(f"ironflow-notification-{item.run_id}", call)
            except Exception:
                give_back(engine, claimed)
                raise
        return True

    def call_due(self, engine: Engine, item: QueueItem) -> bool:
        """Claim a call and make it here; return False if the run is another user's."""
        if not _is_own(engine, item):
            return False
        claimed = claim(engine, item, lease_s=LEASE_S)
        if claimed is not None:
            self._call(engine, claimed)
        return True

    def _call(
        self,
        engine: Engine,
        claimed: QueueItem,
        failures: tuple[type[BaseException], ...] = (Exception, SystemExit),  # an interrupt reaches the main thread
    ) -> None:
        try:
            try:
                self._perform(engine, claimed.run_id)
            except failures as error:
                self._fail(engine, claimed, error)
            else:
                settle(engine, claimed, ReplacedItem(claimed=claimed))
        except (JournalError, EngineClosed) as error:  # it is called again when the claim is over
            logger().warning("the call of %s for run %s could not be recorded: %s", self.name, claimed.run_id, error)
        except BaseException:
            with suppress(IronflowError):
                give_back(engine, claimed)
            raise
        finally:
            engine.watch()  # the next one may be due

    def _perform(self, engine: Engine, run_id: RunId) -> None:
        context, run = contextvars.Context(), Run[Any](engine, run_id)
        context.run(CURRENT.set, engine)
        if inspect.iscoroutinefunction(self._function):
            engine.spawn(context.run(self._function, run)).result()
        else:
            context.run(call_body, self._function, (run,), {})

    def _fail(self, engine: Engine, claimed: QueueItem, error: BaseException) -> None:
        stored = store_failure(error, engine.signer)
        after = failed(engine, claimed, error, stored)
        settle(engine, claimed, ReplacedItem(claimed=claimed, following=(after,)), values=(stored,))
        how = "and is not called again; iron.work() lists it" if is_last(claimed, error) else "and is called again"
        logger().warning("%s raised for run %s, %s: %r", self.name, claimed.run_id, how, error)


def _is_own(engine: Engine, item: QueueItem) -> bool:
    """Return True if this user began the run: the function is called for no other one."""
    with engine.access.current() as reader:
        return bool(own_runs(engine.signer, reader, reader.runs(Select(run_ids=[item.run_id]))))
