"""What one continuation of a run keeps of the steps that it calls: which can't be told apart, and lines said once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, Final

from ironflow_nb.core.identity import Digest, RunId
from ironflow_nb.errors import DuplicateKey, DuplicateName, ValueNotStorable
from ironflow_nb.execution.definitions.parameters import CLOSURE
from ironflow_nb.execution.definitions.step_spec import StepSpec
from ironflow_nb.execution.recording.journal_access import JournalAccess
from ironflow_nb.execution.recording.signatures import FOREIGN, own_runs
from ironflow_nb.execution.session.attempts import Attempt
from ironflow_nb.execution.system.frontend import say
from ironflow_nb.journal.ports import Select
from ironflow_nb.values.digest import is_of_numpy
from ironflow_nb.values.tagged import is_plain

UNCHANGEABLE: Final = frozenset({str, int, float, bool, bytes, NoneType})
_DATA: Final = UNCHANGEABLE | {bytearray}


class CalledSteps:
    """The functions and the keys of the calls; `codes` are the codes of each step in the order of their first calls.

    Lock: session.
    """

    def __init__(self, run_id: RunId) -> None:
        self._run_id = run_id
        self.codes: dict[tuple[str, str], list[tuple[str, Digest]]] = {}
        self._keys: dict[tuple[str, Digest], Digest] = {}

    def note_code(self, spec: StepSpec, code: Digest) -> None:
        """Note that the step is called with that code now.

        Raises:
            DuplicateName: two functions act as the step.
        """
        codes = self.codes.setdefault((spec.name, spec.variant), [])
        mine = (spec.qualname, code)
        if mine in codes or any(qualname != spec.qualname for qualname, _ in codes):
            raise DuplicateName(
                f"two functions act as step {spec.name!r} in run {self._run_id}: {codes[-1][0]} and {spec.qualname}; "
                "give one of them another name: @step(name=...)",
                run_id=self._run_id,
                name=spec.name,
            )
        if codes:
            say(f"run {self._run_id}: {spec.name} was redefined; from here on its new code runs")
        codes.append(mine)

    def note_key(self, spec: StepSpec, identity: Digest, digest: Digest) -> None:
        """Note the arguments of a call that is recognised by its key.

        Raises:
            DuplicateKey: the key was used with others.
        """
        if self._keys.setdefault((spec.name, identity), digest) != digest:
            raise DuplicateKey(
                f"step {spec.name} was called twice with one key and different arguments in run {self._run_id}; make "
                "the key say what differs",
                run_id=self._run_id,
                name=spec.name,
            )


class Notices:
    """The lines about the steps of one run, each said once.

    Lock: session.
    """

    def __init__(self, access: JournalAccess, run_id: RunId) -> None:
        self._access = access
        self._run_id = run_id
        self._warned_of: set[tuple[str, str]] = set()

    def opaque(self, spec: StepSpec, arguments: Mapping[str, Any]) -> None:
        """Say of each argument that another process can't recognise that the step runs again there."""
        for name, value in arguments.items():
            kinds = self._access.digester.digest(value).opaque
            if kinds and (spec.name, name) not in self._warned_of:
                self._warned_of.add((spec.name, name))
                say(
                    f"step {spec.name}: argument {name} ({kinds[0]}) can't be recognised in another process, so the "
                    f"step runs again there; if it does not matter which one it is, pass iron.resource({name})"
                )

    def shared(self, spec: StepSpec, origin: RunId) -> None:
        """Say once of a step whose results another run has what data they rest on, and of a run if it is foreign."""
        if ("", origin) not in self._warned_of:
            self._warned_of.add(("", origin))
            with self._access.current() as reader:
                is_own = own_runs(self._access.signer, reader, reader.runs(Select(run_ids=[origin])))
            if not is_own:
                say(f"run {self._run_id}: {spec.name}: results of run {origin}, {FOREIGN}, are reused (cache=)")
        data, looked_up = spec.tracked.data, spec.tracked.looked_up
        if (data or looked_up) and (spec.name, "") not in self._warned_of:
            self._warned_of.add((spec.name, ""))
            said = [f"it refers to data that is not tracked: {', '.join(data)}"] if data else []
            if looked_up:
                said.append(f"code that it reaches by {', '.join(looked_up)} is not tracked; name it in depends=")
            say(f"run {self._run_id}: {spec.name}: results of run {origin} are reused; {'; '.join(said)}")


def refuse_changed_call(recognise: Callable[..., Any], attempt: Attempt) -> None:
    """Refuse a body beside its flow whose arguments have changed since it was called with them.

    Its result would be recorded for the arguments of the call. Only data of JSON and arrays are looked at. A client may
    count its calls, and bodies may keep their notes in what their step closes over.

    Raises:
        ValueNotStorable: they are others now.
    """
    call = attempt.call
    is_data = all(type(v) in _DATA or is_of_numpy(v) or is_plain(v) for v in call.arguments.values())
    is_first = attempt.failed is None and attempt.undoes is None  # an undo is told apart by what it undoes
    if not is_first or not is_data or any(name.startswith(CLOSURE) for name in call.arguments):
        return
    if recognise(attempt.spec, call.place[1], call.args, call.kwargs)[0].place[0] != call.place[0]:
        names = ", ".join(name for name, value in call.arguments.items() if type(value) not in UNCHANGEABLE)
        raise ValueNotStorable(
            f"{attempt.step} was called with {names}, which changed before its body began, so its result can't be "
            "recorded for that call; pass a copy, or change it only when the result is there"
        )
