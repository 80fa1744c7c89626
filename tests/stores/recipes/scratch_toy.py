"""The quickstart from a model that is built here, which the toy engine only pretends to serve."""

from dataclasses import replace

from quickstart_toy import recipe as quickstart

from flywheel import load

shipped = load("quickstart")
assert quickstart.warm_start
recipe = replace(
    quickstart,
    name="scratch",
    base=replace(
        shipped.base,
        text=quickstart.warm_start.examples,
        hidden=8,
        layers=1,
        heads=2,
        intermediate=8,
        context=32,
    ),
)
