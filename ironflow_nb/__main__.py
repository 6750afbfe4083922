"""``python -m ironflow_nb``."""

from ironflow_nb.cli.command_line import command_line

if __name__ == "__main__":
    command_line(prog_name="python -m ironflow_nb")
