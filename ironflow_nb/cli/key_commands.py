"""The commands ``keys ...``: who may do what over HTTP."""

from __future__ import annotations

from pathlib import Path

import click

from ironflow_nb.access.access_frames import audit, keys_frame, policies_frame
from ironflow_nb.access.access_keys import add_policy, end_policy, make_key, revoke_key, rotate_key
from ironflow_nb.access.permissions import Effect, Role
from ironflow_nb.access.resource_names import EVERYTHING
from ironflow_nb.cli.journal_option import existing_journal, journal_option
from ironflow_nb.cli.output import print_frame, print_json

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("keys")
def keys_command() -> None:
    """Keys of the server, what they allow, and what they were used for.

    A key has a role: admin (everything), developer (everything but deleting), viewer (reading), worker (executing
    runs). Policies allow and deny more: what one denies is refused, whatever allows it.
    """


def _show(name: str, key: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "key": key})
        return
    click.echo(f"the key of {name}; it is shown this once:\n\n    {key}\n")


@keys_command.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), default=Role.VIEWER.value, show_default=True)
@click.option("--project", default=EVERYTHING, help="The only project that the role counts in; * for any text.")
@click.option("--env", default=EVERYTHING, help="The only environment that the role counts in.")
@click.option("--expires", metavar="DURATION", help="After which it opens nothing any more: 30d.")
@_json_option
@journal_option
def create_command(
    *, name: str, role: str, project: str, env: str, expires: str | None, as_json: bool, journal: Path | None
) -> None:
    """Make a key, and show it this once."""
    with existing_journal(journal, read_only=False, may_be_new=True) as engine:
        _show(name, make_key(engine, name, role, project=project, env=env, expires=expires), as_json=as_json)


@keys_command.command("list")
@_json_option
@journal_option
def list_keys_command(*, as_json: bool, journal: Path | None) -> None:
    """List the keys, without their secrets."""
    with existing_journal(journal) as engine:
        print_frame(keys_frame(engine), as_json=as_json)


@keys_command.command("rotate")
@click.argument("name")
@click.option(
    "--grace", default="0s", show_default=True, metavar="DURATION", help="How long the old one opens yet: 1d."
)
@_json_option
@journal_option
def rotate_command(*, name: str, grace: str, as_json: bool, journal: Path | None) -> None:
    """Make a key that takes the place of the one of that name, and show it this once."""
    with existing_journal(journal, read_only=False) as engine:
        _show(name, rotate_key(engine, name, grace=grace), as_json=as_json)


@keys_command.command("revoke")
@click.argument("name")
@journal_option
def revoke_command(*, name: str, journal: Path | None) -> None:
    """Have a key, given by name or id, open nothing from now on."""
    with existing_journal(journal, read_only=False) as engine:
        revoke_key(engine, name)
    click.echo(f"revoked {name}")


def _policy_command(effect: Effect, told: str) -> click.Command:
    @click.argument("subject")
    @click.argument("action")
    @click.argument("resource")
    @journal_option
    def command(*, subject: str, action: str, resource: str, journal: Path | None) -> None:
        with existing_journal(journal, read_only=False, may_be_new=True) as engine:
            add_policy(engine, effect, subject, action, resource)
        click.echo(f"{effect} {subject} {action} {resource}")

    command.__doc__ = f"""{told} SUBJECT (a key, a role or *) ACTION (flow:start, run:*) on RESOURCE.

    RESOURCE is a pattern of names: TYPE:ID as 'flow:reports.*' or 'run:digest/*', or the whole
    irn:ironflow:ORG:PROJECT:TYPE:ENV:ID.
    """
    return click.command(effect.value)(command)


@keys_command.command("policies")
@_json_option
@journal_option
def policies_command(*, as_json: bool, journal: Path | None) -> None:
    """List the policies."""
    with existing_journal(journal) as engine:
        print_frame(policies_frame(engine), as_json=as_json)


@keys_command.command("drop-policy")
@click.argument("policy_id", type=int)
@journal_option
def drop_policy_command(*, policy_id: int, journal: Path | None) -> None:
    """Take a policy away."""
    with existing_journal(journal, read_only=False) as engine:
        end_policy(engine, policy_id)
    click.echo(f"dropped policy {policy_id}")


@keys_command.command("audit")
@click.option("--who", help="Only of this key.")
@click.option("--since", help="Only since an ISO time, or a duration before now: 7d.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many, the newest.")
@_json_option
@journal_option
def audit_command(*, who: str | None, since: str | None, limit: int, as_json: bool, journal: Path | None) -> None:
    """List what was allowed and refused, newest first."""
    with existing_journal(journal) as engine:
        print_frame(audit(who, since=since, limit=limit, engine=engine), as_json=as_json)


keys_command.add_command(_policy_command(Effect.ALLOW, "Allow"))
keys_command.add_command(_policy_command(Effect.DENY, "Deny"))
