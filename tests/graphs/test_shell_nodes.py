"""The kind shell: real programs, their output, their end, and what they may not do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ironflow_nb.errors import NodeFailed, NodeTimeout, NotGranted
from ironflow_nb.execution.system.system import SystemClock
from ironflow_nb.graphs.compiler import schema_check
from ironflow_nb.graphs.grants import SHELL_TEXT, Grants, Need
from ironflow_nb.graphs.nodes.shell import SHELL
from ironflow_nb.graphs.runtime.node_environment import WorkContext
from ironflow_nb.graphs.secrets import Secrets

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the programs are those of POSIX")

PYTHON = sys.executable


def perform(
    command: Any, *, allow: Mapping[str, Any] | None = None, timeout_s: float | None = None, **options: Any
) -> dict[str, Any]:
    given = {"command": command, **options}
    assert not list(schema_check.problems(SHELL.schema, given, allows_expressions=False))
    result: dict[str, Any] = SHELL.perform(given, context_of(allow, timeout_s))
    return result


def context_of(allow: Mapping[str, Any] | None, timeout_s: float | None) -> WorkContext:
    grants = Grants.of(allow)
    return WorkContext(node="it", grants=grants, clock=SystemClock(), secrets=Secrets({}, grants), timeout_s=timeout_s)


def written(**options: Any) -> list[str]:
    return [message for _, message in schema_check.problems(SHELL.schema, options, allows_expressions=True)]


def is_running(pid: int) -> bool:
    """Tell whether a process runs: one that has ended, and that nobody has asked how, does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        state = "R"
    return state not in {"Z", "X"}


def wait_until_gone(pid: int, within_s: float = 10) -> None:
    until = time.monotonic() + within_s
    while is_running(pid):
        assert time.monotonic() < until, f"{pid} still runs"
        time.sleep(0.02)


def wait_for_text(path: Path) -> str:
    until = time.monotonic() + 20
    while not (path.exists() and path.read_text().strip()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return path.read_text().strip()


# -- what it gives -----------------------------------------------------------------------------------------------


def test_a_list_is_run_without_a_shell() -> None:
    result = perform(["echo", "$HOME; echo two", 3, 0.5])
    assert result["stdout"] == "$HOME; echo two 3 0.5\n"
    assert (result["exit_code"], result["stderr"], result["is_truncated"]) == (0, "", False)
    assert result["duration_s"] > 0


def test_a_text_is_run_by_the_shell() -> None:
    assert perform("printf one; printf two | tr a-z A-Z")["stdout"] == "oneTWO"


def test_both_streams_are_kept_apart() -> None:
    result = perform("echo out; echo err >&2")
    assert (result["stdout"], result["stderr"]) == ("out\n", "err\n")


def test_arguments_follow_those_of_a_list() -> None:
    assert perform(["echo", "a"], arguments=["b c", 4])["stdout"] == "a b c 4\n"


def test_arguments_of_a_text_are_data_for_the_shell() -> None:
    hostile = "x; echo pwned $(echo pwned) `echo pwned`"
    assert perform('echo "$1|$2|$#"', arguments=[hostile, "y"])["stdout"] == f"{hostile}|y|2\n"


def test_variables_are_data_for_the_shell() -> None:
    hostile = '"; echo pwned; "'
    assert perform('printf %s "$WORD"', env={"WORD": hostile})["stdout"] == hostile


def test_stdin_is_read_and_otherwise_empty() -> None:
    assert perform(["cat"], stdin="größe\n")["stdout"] == "größe\n"
    assert perform(["cat"])["stdout"] == ""


def test_a_large_stdin_that_nobody_reads_does_no_harm() -> None:
    assert perform(["true"], stdin="x" * 5_000_000)["exit_code"] == 0


def test_a_large_stdin_comes_back_whole() -> None:
    text = "0123456789" * 300_000
    assert perform(["cat"], stdin=text)["stdout"] == text


def test_output_that_is_no_utf8_is_decoded_with_replacement() -> None:
    assert perform("printf 'a\\377b'")["stdout"] == "a\ufffdb"


def test_it_runs_in_the_folder_of_the_graph_or_the_one_it_names(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    assert perform(["pwd", "-P"])["stdout"].strip() == str(tmp_path.resolve())
    assert perform(["pwd", "-P"], cwd="inner")["stdout"].strip() == str((tmp_path / "inner").resolve())


# -- limits ------------------------------------------------------------------------------------------------------


def test_more_than_max_bytes_is_cut_while_the_program_ends_as_it_would() -> None:
    result = perform("head -c 3000000 /dev/zero | tr '\\0' x; echo done >&2; exit 3", max_bytes=10, ok_codes=[3])
    assert (result["stdout"], result["stderr"]) == ("x" * 10, "done\n")
    assert (result["exit_code"], result["is_truncated"]) == (3, True)


def test_a_character_that_is_cut_in_the_middle_is_left_out() -> None:
    assert perform(["printf", "aé"], max_bytes=2)["stdout"] == "a"


def test_as_much_as_max_bytes_is_not_cut() -> None:
    result = perform(["printf", "12345"], max_bytes=5)
    assert (result["stdout"], result["is_truncated"]) == ("12345", False)


def test_a_timeout_ends_the_program_and_its_children(tmp_path: Path) -> None:
    with pytest.raises(NodeTimeout, match=r"it: the command took longer than 1 s and was ended:\nworking") as caught:
        perform("echo working >&2; sleep 100 & echo $! > child; echo $$ > self; wait", timeout_s=1)
    for name in ("child", "self"):
        wait_until_gone(int((tmp_path / name).read_text()))
    assert caught.value.output["stderr"] == "working\n"
    assert caught.value.output["exit_code"] is None


def test_a_program_may_clean_up_when_its_time_is_over(tmp_path: Path) -> None:
    with pytest.raises(NodeTimeout):
        perform("trap 'sleep 0.3; echo cleaned > note; exit 0' TERM; sleep 100 & wait", timeout_s=0.5)
    assert (tmp_path / "note").read_text() == "cleaned\n"


def test_a_program_that_will_not_end_is_killed(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(NodeTimeout):
        perform("echo $$ > self; trap '' TERM; while :; do sleep 0.2; done", timeout_s=0.5)
    assert time.monotonic() - began < 8
    wait_until_gone(int((tmp_path / "self").read_text()))


def test_what_is_left_in_the_background_is_ended_and_not_waited_for(tmp_path: Path) -> None:
    began = time.monotonic()
    result = perform("sleep 100 & echo $! > child; echo started")
    assert result["stdout"] == "started\n"
    assert time.monotonic() - began < 10
    wait_until_gone(int((tmp_path / "child").read_text()))


def test_what_the_background_still_writes_at_the_end_is_kept() -> None:
    assert perform("(sleep 0.1; echo late) & echo early")["stdout"] == "early\nlate\n"


def test_an_interrupt_ends_the_program(tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.7)
    try:
        with pytest.raises(KeyboardInterrupt):
            perform("echo $$ > self; sleep 100")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    wait_until_gone(int((tmp_path / "self").read_text()))


def test_a_program_ends_with_the_python_that_has_started_it(tmp_path: Path) -> None:
    script = """
import threading, pathlib
from tests.graphs.test_shell_nodes import perform, wait_for_text
threading.Thread(target=perform, args=(["sh", "-c", "echo $$ > self; sleep 100"],), daemon=True).start()
wait_for_text(pathlib.Path("self"))
"""
    root = Path(__file__).parent.parent.parent
    subprocess.run([PYTHON, "-c", script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)}, check=True)
    wait_until_gone(int((tmp_path / "self").read_text()))


# -- failures ----------------------------------------------------------------------------------------------------


def test_another_exit_code_than_0_fails_with_the_last_words_and_the_output() -> None:
    with pytest.raises(NodeFailed, match="'sh' ended with exit code 7") as caught:
        perform(["sh", "-c", "echo out; seq 1 9 >&2; exit 7"])
    assert str(caught.value).endswith("5\n6\n7\n8\n9")
    assert caught.value.output["exit_code"] == 7
    assert caught.value.output["stdout"] == "out\n"
    assert caught.value.node == "it"
    assert caught.value.is_retryable


def test_an_error_carries_the_end_of_long_streams() -> None:
    with pytest.raises(NodeFailed) as caught:
        perform("seq 1 20000 >&2; exit 1")
    assert caught.value.output["stderr"].endswith("20000\n")
    assert len(caught.value.output["stderr"]) == 4_000
    assert caught.value.output["is_truncated"]


def test_exit_codes_that_are_no_failure() -> None:
    assert perform("exit 7", fail_on_exit=False)["exit_code"] == 7
    assert perform("exit 1", ok_codes=[0, 1])["exit_code"] == 1
    with pytest.raises(NodeFailed):
        perform("exit 0", ok_codes=[1])


def test_the_signal_that_ended_a_program_is_named() -> None:
    with pytest.raises(NodeFailed, match="ended by signal 9"):
        perform("kill -9 $$")


@pytest.mark.parametrize("program", ["no-such-program-anywhere", "./not-here", "a\0b"])
def test_a_program_that_is_not_there_fails_for_good(program: str) -> None:
    with pytest.raises(NodeFailed, match="there is no program") as caught:
        perform([program])
    assert not caught.value.is_retryable


def test_an_argument_that_no_program_can_have_fails_for_good() -> None:
    with pytest.raises(NodeFailed, match="can't be started: embedded null byte") as caught:
        perform(["echo", "a\0b"])
    assert not caught.value.is_retryable


def test_a_program_with_a_folder_starts_from_the_folder_of_the_graph(tmp_path: Path) -> None:
    tool = tmp_path / "tool.sh"
    tool.write_text("#!/bin/sh\necho mine\n")
    tool.chmod(0o755)
    (tmp_path / "inner").mkdir()
    assert perform(["./tool.sh"], cwd="inner")["stdout"] == "mine\n"


def test_a_folder_that_is_not_there_is_told() -> None:
    with pytest.raises(NodeFailed, match="the folder 'nowhere' to run in is not there"):
        perform(["true"], cwd="nowhere")


def test_a_stdin_without_a_text_is_told() -> None:
    with pytest.raises(NodeFailed, match="stdin can't be written as UTF-8"):
        SHELL.perform({"command": ["cat"], "stdin": "\ud800"}, context_of(None, None))


# -- grants ------------------------------------------------------------------------------------------------------


def test_a_program_is_granted_by_its_name_as_it_is_written() -> None:
    allow = {"shell": ["echo"]}
    assert perform(["echo", "x"], allow=allow)["stdout"] == "x\n"
    for other in ("cat", "/bin/echo", "./echo"):
        with pytest.raises(NotGranted):
            perform([other], allow=allow)


@pytest.mark.parametrize("allow", [{}, {"shell": []}, {"shell": ["echo"]}, {"shell": ["echo x", "/bin/sh"]}])
def test_a_text_needs_the_whole_shell(allow: Mapping[str, Any]) -> None:
    with pytest.raises(NotGranted, match=r"write it as a list.*allow: \{shell: true\}"):
        perform("echo x", allow=allow)


def test_a_text_is_run_where_the_whole_shell_is_granted() -> None:
    assert perform("echo x", allow={"shell": True})["stdout"] == "x\n"


def test_the_folder_it_runs_in_must_be_granted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    allow = {"shell": ["pwd"], "files": ["in"]}
    assert perform(["pwd"], allow=allow, cwd="in")["exit_code"] == 0
    for outside in ("out", "in/..", "in/link", "/"):
        with pytest.raises(NotGranted):
            perform(["pwd"], allow=allow, cwd=outside)


def test_a_program_gets_few_variables_and_those_that_are_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IT_TOKEN", "secret")
    monkeypatch.setenv("IT_OTHER", "other")
    monkeypatch.setenv("LC_TIME", "C")
    allow = {"shell": ["env"], "env": ["IT_OTHER", "IT_NOT_THERE"], "shell_env": ["ADDED"]}
    lines = perform(["env"], allow=allow, env={"ADDED": 3})["stdout"].splitlines()
    given = dict(line.split("=", 1) for line in lines)
    assert {"PATH", "LC_TIME"} <= given.keys()
    assert (given["IT_OTHER"], given["ADDED"]) == ("other", "3")
    assert given.keys().isdisjoint({"IT_TOKEN", "IT_NOT_THERE", "IRONFLOW_KEY", "PYTEST_CURRENT_TEST"})


def test_all_variables_go_where_all_are_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IT_TOKEN", "all")
    assert "IT_TOKEN=all\n" in perform(["env"])["stdout"]


CHOOSING = (
    "PATH", "LD_PRELOAD", "LD_AUDIT", "DYLD_INSERT_LIBRARIES", "BASH_FUNC_date%%", "BASH_ENV", "ENV", "SHELLOPTS",
    "IFS",
    "PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "PERL5LIB", "PERL5OPT", "RUBYOPT", "NODE_OPTIONS", "JAVA_TOOL_OPTIONS",
    "GIT_SSH_COMMAND", "GIT_EXEC_PATH", "GIT_CONFIG_COUNT", "EDITOR", "PAGER", "HOME", "anything",
)  # fmt: skip


@pytest.mark.parametrize("name", CHOOSING)
def test_a_graph_with_granted_programs_sets_only_variables_that_are_granted_too(name: str, tmp_path: Path) -> None:
    command, env = ["echo"], {name: str(tmp_path)}
    for allow in ({"shell": ["echo"]}, {"shell": ["echo"], "env": [name]}, {"shell": ["echo"], "env": True}):
        assert Grants.of(allow).refusal(list(SHELL.needs({"command": command, "env": env}))[-1])
        with pytest.raises(NotGranted, match=r"shell_env '.*' is not granted"):
            perform(command, allow=allow, env=env)
    assert perform(["printenv", name], allow={"shell": ["printenv"], "shell_env": [name]}, env={name: "x"})


@pytest.mark.parametrize("name", ["BASH_FUNC_date%%", "BASH_ENV"])
def test_a_granted_script_runs_nothing_that_a_variable_brings(name: str, tmp_path: Path) -> None:
    script = tmp_path / "safe.sh"
    script.write_text("#!/usr/bin/env bash\ndate > /dev/null\n")
    script.chmod(0o755)
    mark = tmp_path / "mark"
    (tmp_path / "evil").write_text(f"touch {mark}")
    env = {"BASH_FUNC_date%%": f"() {{ touch {mark}; }}", "BASH_ENV": str(tmp_path / "evil")}[name]
    with pytest.raises(NotGranted):
        perform([str(script)], allow={"shell": [str(script)]}, env={name: env})
    assert not mark.exists()


def test_what_bounds_a_graph_bounds_the_variables_it_sets() -> None:
    need = Need("shell_env", "LD_PRELOAD")
    whole, listed = Grants.of({"shell": True}), Grants.of({"shell": ["x"], "shell_env": ["A"]})
    assert whole.refusal(need) is None
    assert whole.within(listed).refusal(need)
    assert listed.within(whole).refusal(need)
    assert listed.within(whole).refusal(Need("shell_env", "A")) is None


def test_a_program_is_looked_for_in_the_path_of_the_machine(tmp_path: Path) -> None:
    false_echo = tmp_path / "echo"
    false_echo.write_text("#!/bin/sh\nprintf false\n")
    false_echo.chmod(0o755)
    assert perform(["echo", "x"], env={"PATH": str(tmp_path)})["stdout"] == "x\n"


# -- as it is written --------------------------------------------------------------------------------------------


def test_needs_are_what_is_written() -> None:
    assert list(SHELL.needs({"command": ["git", "x"], "cwd": "data"})) == [Need("shell", "git"), Need("files", "data")]
    assert list(SHELL.needs({"command": "ls -l"})) == [Need("shell", SHELL_TEXT)]
    assert list(SHELL.needs({"command": ["{{ input.tool }}"], "cwd": "{{ input.folder }}"})) == []


def test_an_expression_in_a_text_for_the_shell_is_found_as_it_is_written() -> None:
    (message,) = written(command="grep {{ input.word }} file")
    assert "write a list" in message
    assert written(command=["grep", "{{ input.word }}", "file"]) == []
    assert written(command="grep $1 file", arguments="{{ input.words }}") == []


@pytest.mark.parametrize(
    "options",
    [
        {}, {"command": []}, {"command": ""}, {"command": 3}, {"command": [None]}, {"command": [True]},
        {"command": ["ls"], "unknown": 1}, {"command": ["ls"], "env": {"A=B": "x"}},
        {"command": ["ls"], "env": {"": "x"}},
        {"command": ["ls"], "ok_codes": []}, {"command": ["ls"], "max_bytes": -1}, {"command": ["ls"], "stdin": 3},
    ],
)  # fmt: skip
def test_what_can_not_be_meant_is_found(options: dict[str, Any]) -> None:
    assert written(**options)


def test_the_value_alone_is_the_command() -> None:
    assert SHELL.options_of("ls -l") == {"command": "ls -l"}
    assert SHELL.options_of(["ls"]) == {"command": ["ls"]}
