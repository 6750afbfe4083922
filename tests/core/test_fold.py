"""The rows of a run are what its facts say, and facts that no run can have are a corrupt journal."""

from __future__ import annotations

from copy import deepcopy
from random import Random

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ironflow_nb.core import events
from ironflow_nb.core.event_codec import decode_event, encode_event
from ironflow_nb.core.event_kinds import StepChange
from ironflow_nb.core.events import RecordedEvent
from ironflow_nb.core.identity import StepRef
from ironflow_nb.core.run_state import RunState, evolve, fold, observed_failures
from ironflow_nb.core.status import StepStatus
from ironflow_nb.errors import JournalCorrupt
from tests.core.every_event import ERROR, KINDS, OUTPUT, SAMPLES
from tests.core.lives import LIVES, Life, lived
from tests.core.made import RUN, history, run_started, step_started

FETCH, PARSE = StepRef("fetch[0]"), StepRef("parse[0]")
FAILED = events.StepFailed(error=ERROR, duration_s=1.0)
DONE = events.StepCompleted(output=OUTPUT, duration_s=1.0)
BEGINS = (
    events.StepQueued, events.StepStarted, events.WaitStarted, events.StepReused, events.StepSkipped,
    events.OutputInjected,
)  # fmt: skip
MANY_ARE_SHORT = settings(suppress_health_check=[HealthCheck.filter_too_much])


def renumbered(facts: list[RecordedEvent]) -> list[RecordedEvent]:
    return [replace(fact, version=version) for version, fact in enumerate(facts, start=1)]


@given(LIVES)
def test_every_life_of_a_run_folds_to_its_rows(life: Life) -> None:
    state = fold(RUN, life.facts)
    run, steps = life.rows()
    assert state.run == run
    assert state.steps == steps
    assert list(state.steps) == list(steps)
    assert state.version == len(life.facts)
    assert state.n_attempts == dict(life.latest().values())
    for step, place in life.latest().items():
        assert state.latest(step) == steps[place]


@given(LIVES)
def test_a_life_that_was_written_and_read_folds_to_the_same_rows(life: Life) -> None:
    read = [replace(fact, event=decode_event(*encode_event(fact.event))) for fact in life.facts]
    assert fold(RUN, read) == fold(RUN, life.facts)


@given(LIVES, st.integers(0, 40))
def test_a_fold_can_stop_anywhere_and_go_on_later(life: Life, where: int) -> None:
    state = fold(RUN, life.facts[:where])
    for fact in life.facts[where:]:
        evolve(state, fact)
    assert state == fold(RUN, life.facts)


def test_the_lives_of_the_model_have_events_of_every_type() -> None:
    chance = Random(0)
    lives = [lived([(chance.randrange(60), chance.randrange(12), 1) for _ in range(30)]) for _ in range(100)]
    assert sorted({type(fact.event).__name__ for life in lives for fact in life.facts}) == KINDS


def test_of_no_facts_there_is_no_run() -> None:
    assert fold(RUN, []) == RunState(RUN)
    assert RunState(RUN).latest(FETCH) is None


BEGINNINGS = {"StepQueued", "StepStarted", "WaitStarted", "StepReused", "StepSkipped", "OutputInjected"}


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"RunStarted", "InjectionUndone"}))
def test_every_event_is_taken_by_a_run_whose_step_is_running(name: str) -> None:
    place = ("parse[0]", 1) if name in BEGINNINGS else ("fetch[0]", 1)
    facts = history(run_started(), (step_started(), "fetch[0]", 1), (SAMPLES[name], *place))
    assert fold(RUN, facts).version == 3


@given(LIVES, st.lists(st.integers(0, 11), min_size=1, max_size=4))
def test_edits_that_are_taken_back_leave_the_state_as_it_was(life: Life, numbers: list[int]) -> None:
    life = deepcopy(life)
    for place in life.injected():  # what was given before stays out of this
        life.tell(SAMPLES["InjectionUndone"], place)
        del life.steps[place]
    if not life.attempts("completed", "failed", "timed_out", "waiting", "retrying", "running"):
        return
    before = fold(RUN, life.facts)
    for number in numbers:
        life.inject(number)
    assert {row.reason for row in fold(RUN, life.facts).steps.values()} >= {"injected"}
    while life.injected():
        life.take_back(len(life.injected()) - 1)
    after = fold(RUN, life.facts)
    assert (after.run, after.steps, after.n_attempts) == (before.run, before.steps, before.n_attempts)


def test_a_failure_is_lived_with_once_a_later_step_says_so() -> None:
    facts = history(
        run_started(),
        (step_started(), FETCH, 1),
        (FAILED, FETCH, 1),
        (step_started("parse", lived_with=(FETCH,)), PARSE, 1),
    )
    assert not fold(RUN, facts[:3]).steps[FETCH, 1].lived_with
    assert fold(RUN, facts).steps[FETCH, 1].lived_with
    assert not fold(RUN, facts).steps[PARSE, 1].lived_with


def test_a_failure_that_ended_the_run_was_not_lived_with_after_all() -> None:
    facts = history(
        run_started(),
        (step_started(), FETCH, 1),
        (FAILED, FETCH, 1),
        (step_started("parse", lived_with=(FETCH,)), PARSE, 1),
        (FAILED, PARSE, 1),
        events.RunFailed(error=ERROR, caused_by=(FETCH,)),
    )
    assert not fold(RUN, facts).steps[FETCH, 1].lived_with


def test_of_several_attempts_the_latest_was_lived_with() -> None:
    facts = history(
        run_started(),
        (step_started(), FETCH, 1),
        (FAILED, FETCH, 1),
        (step_started(), FETCH, 2),
        (FAILED, FETCH, 2),
        (step_started("parse", lived_with=(FETCH, StepRef("unheard[0]"))), PARSE, 1),
    )
    state = fold(RUN, facts)
    assert [state.steps[FETCH, n].lived_with for n in (1, 2)] == [False, True]
    assert StepRef("unheard[0]") not in {step for step, _ in state.steps}


def test_only_a_beginning_step_and_a_run_that_failed_tell_of_failures() -> None:
    telling = {name: observed_failures(RecordedEvent(1, 1, event)) for name, event in SAMPLES.items()}
    assert {name: told for name, told in telling.items() if told} == {
        "RunFailed": [(FETCH, False)],
        "CompensationStarted": [(FETCH, False)],
    }
    assert observed_failures(RecordedEvent(1, 1, step_started(lived_with=(PARSE, FETCH)))) == [
        (PARSE, True),
        (FETCH, True),
    ]


def test_an_attempt_that_was_to_be_retried_has_failed_when_the_next_begins() -> None:
    facts = history(
        run_started(),
        (step_started(), FETCH, 1),
        (FAILED, FETCH, 1),
        (events.StepRetryScheduled(due_at=7), FETCH, 1),
        (step_started(), FETCH, 2),
    )
    assert fold(RUN, facts[:4]).steps[FETCH, 1].status is StepStatus.RETRYING
    assert [row.status for row in fold(RUN, facts).steps.values()] == [StepStatus.FAILED, StepStatus.RUNNING]


@given(LIVES, st.data(), st.sampled_from([-2, -1, 1, 2]))
def test_a_version_out_of_its_turn_is_corrupt(life: Life, data: st.DataObject, off: int) -> None:
    facts = list(life.facts)
    where = data.draw(st.integers(0, len(facts) - 1))
    facts[where] = replace(facts[where], version=facts[where].version + off)
    with pytest.raises(JournalCorrupt, match=f"run {RUN} goes on with version {where + 1 + off} after {where}$"):
        fold(RUN, facts)


@given(LIVES, st.data())
def test_a_missing_fact_is_corrupt_unless_it_is_the_newest(life: Life, data: st.DataObject) -> None:
    where = data.draw(st.integers(0, len(life.facts) - 2))
    with pytest.raises(JournalCorrupt, match="goes on with version"):
        fold(RUN, life.facts[:where] + life.facts[where + 1 :])


@given(LIVES)
def test_a_life_without_its_beginning_is_corrupt(life: Life) -> None:
    with pytest.raises(JournalCorrupt, match="and not with RunStarted"):
        fold(RUN, renumbered(life.facts[1:]))


@given(LIVES, st.data())
def test_a_life_in_which_a_beginning_comes_again_is_corrupt(life: Life, data: st.DataObject) -> None:
    undone = {(fact.step, fact.attempt) for fact in life.facts if isinstance(fact.event, events.InjectionUndone)}
    beginnings = [
        n
        for n, fact in enumerate(life.facts)
        if isinstance(fact.event, (events.RunStarted, *BEGINS)) and (fact.step, fact.attempt) not in undone
    ]
    which = data.draw(st.sampled_from(beginnings))
    again = data.draw(st.integers(which + 1, len(life.facts)))
    with pytest.raises(JournalCorrupt, match=r"a second RunStarted|twice"):
        fold(RUN, renumbered([*life.facts[:again], life.facts[which], *life.facts[again:]]))


@MANY_ARE_SHORT
@given(LIVES, st.data())
def test_a_life_in_which_an_ending_comes_again_is_corrupt(life: Life, data: st.DataObject) -> None:
    ends = [n for n, fact in enumerate(life.facts) if isinstance(fact.event, (events.StepCompleted, events.StepFailed))]
    assume(ends)
    which = data.draw(st.sampled_from(ends))
    again = data.draw(st.integers(which + 1, len(life.facts)))
    with pytest.raises(JournalCorrupt, match="already"):
        fold(RUN, renumbered([*life.facts[:again], life.facts[which], *life.facts[again:]]))


@MANY_ARE_SHORT
@given(LIVES, st.data())
def test_a_life_in_which_an_attempt_goes_on_without_its_beginning_is_corrupt(life: Life, data: st.DataObject) -> None:
    changes = [fact for fact in life.facts if isinstance(fact.event, StepChange)]
    more_than_begun = sorted({(fact.step, fact.attempt) for fact in changes if not isinstance(fact.event, BEGINS)})
    assume(more_than_begun)
    place = data.draw(st.sampled_from(more_than_begun))
    rest = [fact for fact in life.facts if not (isinstance(fact.event, BEGINS) and (fact.step, fact.attempt) == place)]
    with pytest.raises(JournalCorrupt, match="without its beginning"):
        fold(RUN, renumbered(rest))


def test_an_error_of_the_fold_names_the_run() -> None:
    for facts in ([RecordedEvent(2, 1, run_started())], history(run_started(), (DONE, FETCH, 1))):
        with pytest.raises(JournalCorrupt) as caught:
            fold(RUN, facts)
        assert caught.value.run_id == RUN  # type: ignore[attr-defined]
