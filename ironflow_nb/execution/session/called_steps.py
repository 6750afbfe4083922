"""The steps that one continuation of a run has called, and the calls that can't be told from another one."""

from __future__ import annotations

from ironflow_nb.core.identity import Digest, RunId
from ironflow_nb.errors import DuplicateKey, DuplicateName
from ironflow_nb.execution.definitions.step_spec import StepSpec
from ironflow_nb.execution.system.frontend import say


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
