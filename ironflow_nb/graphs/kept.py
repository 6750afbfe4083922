"""What the journal keeps of the graph of a run, and whether this user wrote it."""

from __future__ import annotations

from ironflow_nb.core.rows import RunRow
from ironflow_nb.errors import FlowNotDefined, UntrustedRun
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.signatures import is_own_definition, own_runs, untrusted
from ironflow_nb.graphs.formats.reading import Source, source_of


def kept_source(engine: Engine, run: RunRow) -> tuple[Source, UntrustedRun | None]:
    """Return the definition that is kept of the run, and why it can be looked at and not run, if so.

    Raises:
        FlowNotDefined: nothing is kept of it.
    """
    signer = engine.ledger.signer
    with engine.reading() as reader:
        stored = reader.definition(run.definition_id)
        is_own = stored is not None and is_own_definition(signer, reader, stored) and own_runs(signer, reader, [run])
    if stored is None or stored.kind != "graph":
        raise FlowNotDefined(
            f"run {run.run_id} of {run.kind} {run.name} left no graph in {engine.ledger.journal.location}",
            run_id=run.run_id,
            name=run.name,
        )
    is_fine = is_own and stored.name == run.name
    return source_of(stored.source), None if is_fine else untrusted(run, engine.ledger.journal.location)
