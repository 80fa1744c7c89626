"""`python -m flywheel.cli`: the command, whatever is installed."""

from flywheel.cli.app import app

app()
