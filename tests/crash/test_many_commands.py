"""Many commands over many instances, from threads and from processes: nothing is lost, nothing is decided twice.

``IRONFLOW_PROOF=full`` sends 10,000 over 1,000 instances.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.deciders.store import deciders_of
from ironflow_nb.execution.engine import CURRENT
from ironflow_nb.journal.ports import QueueSelect, Select
from tests.conftest import FULL_PROOF
from tests.deciders.counters import Add, Ask, Call, counters

pytestmark = pytest.mark.crash

ROOT = Path(__file__).parents[2]
N_COMMANDS, N_INSTANCES = (10_000, 1_000) if FULL_PROOF else (600, 60)

SENDER = """
import sys
import ironflow_nb as iron
from tests.crash.test_many_commands import send_share, performing

with iron.open("many.db", durability="process"):
    counter = performing(sys.argv[3])
    send_share(counter, int(sys.argv[1]), int(sys.argv[2]))
    counter.run_until_idle()
"""


def performing(who: str) -> Any:
    """Return a counter whose effects leave a line in a file of this process."""
    counter = counters()

    @counter.perform(Call)
    def call(effect: Call) -> None:
        with Path(f"handled-{who}.txt").open("a") as file:
            file.write(f"{effect.what}\n")

    return counter


def send_share(counter: Any, share: int, n_shares: int) -> None:
    """Send the commands whose turn it is; every tenth asks for an effect."""
    for n in range(share, N_COMMANDS, n_shares):
        instance = f"c-{n // 4 % N_INSTANCES}"  # so that all shares have commands for each instance
        counter.send(Ask(instance, str(n)) if n % 10 == 0 else Add(instance), key=str(n)).unwrap()


def checked(folder: Path) -> None:
    """Check that every command was decided once, and every effect performed once."""
    with iron.open(folder / "many.db", read_only=True) as engine, engine.reading() as reader:
        events = reader.events(Select())
        assert [row.position for row in events] == [*range(1, len(events) + 1)]
        versions: dict[str, list[int]] = {}
        for row in events:
            versions.setdefault(row.run_id, []).append(row.version)
        assert len(versions) == N_INSTANCES
        assert all(found == [*range(1, len(found) + 1)] for found in versions.values())
        assert Counter(row.type for row in events)["counter.Added"] == N_COMMANDS
        assert {each.command_key for each in deciders_of(reader).observations()} == set(map(str, range(N_COMMANDS)))
        assert reader.work(QueueSelect()) == []
    handled = [line for file in folder.glob("handled-*.txt") for line in file.read_text().split()]
    assert sorted(handled, key=int) == [str(n) for n in range(0, N_COMMANDS, 10)]


def test_commands_of_four_threads_are_all_decided_once(tmp_path: Path) -> None:
    with iron.open("many.db", durability="process") as engine:
        counter, raised = performing("threads"), []

        def sending(share: int) -> None:
            try:
                CURRENT.set(engine)  # a new thread begins without the engine of its maker
                send_share(counter, share, 4)
                counter.run_until_idle()
            except BaseException as error:
                raised.append(error)

        threads = [threading.Thread(target=sending, args=(share,)) for share in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert raised == []
        counter.run_until_idle(wait=5)
    checked(tmp_path)


def test_commands_of_two_processes_are_all_decided_once(tmp_path: Path) -> None:
    with iron.open("many.db", durability="process"):
        pass
    senders = [
        subprocess.Popen(
            [sys.executable, "-c", SENDER, str(share), "2", f"process-{share}"],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for share in range(2)
    ]  # fmt: skip
    assert [sender.wait(timeout=600) for sender in senders] == [0, 0]
    with iron.open("many.db", durability="process"):
        performing("after").run_until_idle(wait=5)
    checked(tmp_path)
