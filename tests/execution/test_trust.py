"""Pickles of somebody else: not loaded before one said so."""

from __future__ import annotations

from pathlib import Path

import pytest

import ironflow_nb as iron

LOG: list[str] = []


class Model:
    """Something that only a pickle keeps."""

    def __init__(self, weights: list[int]) -> None:
        self.weights = weights

    def __reduce__(self) -> tuple[object, ...]:
        return loaded, (self.weights,)


def loaded(weights: list[int]) -> Model:
    LOG.append("loaded")
    return Model(weights)


@iron.step
def fit(n: int) -> Model:
    LOG.append("fitted")
    return Model([n] * 3)


@iron.flow
def main() -> list[int]:
    return finish(fit(1))


@iron.step
def finish(model: Model) -> list[int]:
    if BROKEN:
        raise RuntimeError
    return model.weights


BROKEN = [True]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of a journal with a pickle in it that somebody else has written."""
    BROKEN[:] = [True]
    path = tmp_path / "journal.db"
    monkeypatch.setenv("IRONFLOW_KEY", "the key of somebody else")
    with iron.open(path), pytest.raises(RuntimeError):
        main()
    monkeypatch.setenv("IRONFLOW_KEY", "my own key")
    BROKEN.clear()
    LOG.clear()
    return path


def test_a_pickle_of_somebody_else_is_not_loaded(path: Path) -> None:
    with iron.open(path):
        with pytest.raises(iron.errors.UntrustedValue, match=r"iron\.trust\("):
            iron.get_run(iron.runs()["run_id"][0]).value("fit")
        # What can't be read hides nothing else, and is neither lost nor redone.
        assert len(iron.runs()) == 1
        assert iron.steps()["status"][0] == "completed"
    assert LOG == []


def test_what_is_trusted_is_loaded_and_nothing_runs_again(path: Path) -> None:
    with iron.open(path):
        assert iron.trust(path) == 3  # the pickle, the run and its definition
        assert iron.trust(path) == 0
        assert main.resume().result() == [1, 1, 1]
    assert set(LOG) == {"loaded"}


@pytest.mark.parametrize("has_key", [True, False])
def test_what_this_user_wrote_is_his_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_key: bool) -> None:
    BROKEN[:] = [True]
    monkeypatch.delenv("IRONFLOW_KEY")
    home = tmp_path / "home"
    monkeypatch.setattr("ironflow_nb.values.signed_pickles.key_path", lambda: home / "key")
    home.write_text("") if not has_key else home.mkdir()  # no folder can be made where a file is
    with iron.open(tmp_path / "journal.db"):
        with pytest.raises(RuntimeError if has_key else iron.JournalError):
            main()
        BROKEN.clear()
        if has_key:
            assert main.resume().result() == [1, 1, 1]
        else:
            failed = iron.get_run(iron.runs()["run_id"][0])
            assert "not written by you" not in repr(failed)
            assert failed.resume().wait().status == "failed"  # the pickle can't be signed, whatever else can


def test_trust_speaks_of_the_file_that_it_was_given(path: Path) -> None:
    with pytest.raises(iron.JournalError, match=r"other\.db"):
        iron.trust(path.with_name("other.db"))
    assert not path.with_name("other.db").exists()


@iron.step(cache=True)
def shared(n: int) -> str:
    return f"{n} of {AUTHOR[0]}"


@iron.flow
def sharing(n: int) -> str:
    return shared(n)


AUTHOR = ["somebody else"]


def test_results_of_somebody_else_are_not_used_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keyed = sharing.options(key="November")
    monkeypatch.setenv("IRONFLOW_KEY", "the key of somebody else")
    with iron.open(tmp_path / "journal.db"):
        assert keyed(1) == "1 of somebody else"
        theirs = iron.runs()["run_id"][0]
    monkeypatch.setenv("IRONFLOW_KEY", "my own key")
    with caplog.at_level("INFO", "ironflow_nb"), iron.open(tmp_path / "journal.db"):
        assert keyed(1) == "1 of somebody else"
        assert f"the result is that of run {theirs}, not written by you" in caplog.text
        caplog.clear()
        assert sharing.options(fresh=True)(1) == "1 of somebody else"
        assert f"results of run {theirs}, not written by you, are reused" in caplog.text
        caplog.clear()
        mine = sharing.options(key="mine")
        assert mine(2) == mine(2)
    assert "not written" not in caplog.text
