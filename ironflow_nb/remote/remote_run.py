"""One run of a server while this process executes it: an engine on a journal that the server has, too."""

from __future__ import annotations

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.errors import IronflowError
from ironflow_nb.execution import REGISTRY, Engine, RunWorker, SystemThreads, logger, missing_signatures
from ironflow_nb.journal.ports import Durability, RunCommit, Select
from ironflow_nb.remote.mirrored_journal import MirroredJournal, RunServer
from ironflow_nb.remote.wire_format import OfferedRun
from ironflow_nb.retention.imported_run import ExportedRun, add_exported

PARK_S = 2.0
"""After as many seconds of waiting a run goes back to its server, which keeps it without any process."""
BEGIN_S = 10.0
"""After as many seconds a run that does not begin here is left to others."""


class RemoteRun:
    """A run that was offered, from its takeover until its end, its wait, or until it is given back."""

    def __init__(self, server: RunServer, offered: OfferedRun, where: str, *, park_s: float = PARK_S) -> None:
        """Begin to execute it. Whether it can be taken over is found out by its first commit."""
        threads = SystemThreads()
        self.run_id = offered.run_id
        self._journal = MirroredJournal(threads.lock(), server, where)
        durability = Durability(offered.durability)
        self.engine = REGISTRY.adopt(Engine(self._journal, durability=durability, threads=threads, park_s=park_s))
        add_exported(self.engine, ExportedRun(self.run_id, offered.tables), where)
        self._sign()
        self._journal.begin(self.engine.access.lease)
        self._worker = RunWorker(self.engine)
        self._before, self._began_at = self._row(), self.engine.clock.monotonic()
        self._journal.receive(offered.mail)
        self.engine.wake_with(lambda _: self._worker, replaces=True)
        self.engine.watch()

    def _sign(self) -> None:
        """Sign the runs as begun by this user, who works for that server. Pickles keep the signature that they have."""
        access = self.engine.access
        with access.current() as reader:
            missing = missing_signatures(access.signer, reader, reader.runs(Select()))
        access.append([RunCommit(run_id=RunId(""), events=(), values=tuple(missing))], self.engine.durability)

    def look(self) -> None:
        """Take the signals that have come, and notice that another owner has taken the run over."""
        own = [each.run_id for each in list(self.engine.sessions.values()) if each.is_open]
        lost = self._journal.look(own)
        if self.run_id in lost and self.engine.is_running_here(self.run_id):
            self._journal.is_lost = True

    def _row(self) -> RunRow:
        with self.engine.access.current() as reader:
            [row] = reader.runs(Select(run_ids=[self.run_id]))
        return row

    @property
    def is_refused(self) -> bool:
        """Whether this process can't execute it."""
        return self.run_id in self.engine.refused

    @property
    def is_over(self) -> bool:
        """Whether this process has nothing more to do with it."""
        if self._journal.is_lost or self.is_refused:
            return True
        if self._row() == self._before:  # read first: a run that has begun meanwhile has a session
            return self.engine.clock.monotonic() - self._began_at > BEGIN_S
        return not self.engine.sessions and not self.engine.is_beginning_here(self.run_id)

    def give_back(self) -> None:
        """Claim nothing more, and leave the run at its next step or wait."""
        self._worker.stop_claiming()
        self._worker.drain()

    def end(self) -> None:
        """End the engine; what is open goes on elsewhere."""
        if self._journal.is_lost:
            logger().warning("run %s was taken over by another worker; what is done here is not recorded", self.run_id)
        self._worker.stop_claiming()
        try:
            self._worker.log_ends()
            self.engine.close()
        except IronflowError as error:
            logger().warning("run %s: %s", self.run_id, error)
