"""Trees are made in many threads at once: a map performs steps, the worker keeps what their code consists of."""

from __future__ import annotations

import ast
import gc
import threading
from collections.abc import Callable

import pytest

from ironflow_nb.code_identity.syntax import parse
from tests.conftest import PARSE

TEXT = "\n".join(f"def f{n}(a, b=[1, 2, {n}]):\n    return [x + (y, a) for x in b]\n" for n in range(60))


def test_what_the_interpreter_mixes_up_once_is_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = iter(range(3))
    parse_once: Callable[..., ast.Module] = ast.parse

    def mixed_up(text: str, filename: str) -> ast.Module:
        if next(failures, None) is not None:
            raise SystemError("AST constructor recursion depth mismatch")
        return parse_once(text, filename)

    monkeypatch.setattr(ast, "parse", mixed_up)
    assert len(parse(TEXT).body) == 60


def test_what_is_no_python_is_refused_at_once() -> None:
    with pytest.raises(SyntaxError):
        parse("def")


def test_many_threads_parse_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ast, "parse", PARSE)
    troubles: list[BaseException] = []

    class Slow:
        """Lets other threads in while a tree is made, as any finalizer of a user's may."""

        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            threading.Event().wait(0.0001)

    def work() -> None:
        try:
            for _ in range(30):
                Slow()
                parse(TEXT)
        except BaseException as error:
            troubles.append(error)

    before = gc.get_threshold()
    gc.set_threshold(50)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.set_threshold(*before)
    assert troubles == []
