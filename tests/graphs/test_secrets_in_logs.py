"""No secret is in what the nodes of a graph write and measure: the journal's bytes tell."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import ironflow_nb as iron
from tests.graphs.hidden import calling, journal, secrets_in, shown

__all__ = ["journal"]


def test_what_is_written_and_measured_has_no_secret_in_it(journal: Path) -> None:
    def say(text: str) -> None:
        sys.stdout.write(text)

    def f(token: str, key: str, pin: str) -> int:
        for secret in (token, key, pin):
            say(f"the secret is {secret}\n")
            for letter in secret:
                say(letter)
            sys.stderr.write(f" and {secret[::-1]}\n")
            logging.getLogger("leaky").warning("it is %s", secret)
            iron.metric(f"length of {secret.splitlines()[-1]!r}", len(secret))
        try:
            raise ValueError(token)
        except ValueError:
            logging.getLogger("leaky").exception("raised")
        say("." * 3_990 + token + "." * 9_000 + "\n")
        say(key)
        return 1

    graph = calling(f, "{{ secrets.token }}", "{{ secrets.key }}", "{{ secrets.pin }}")
    graph()
    run = graph.last
    assert run is not None
    log = run.log()
    assert (
        secrets_in(journal, str(log), log.to_string(max_colwidth=None), run.metrics().to_string(), *shown(graph)) == []
    )
    assert "the secret is ***" in list(log["text"])
    assert "leaky: it is ***" in list(log["text"])
