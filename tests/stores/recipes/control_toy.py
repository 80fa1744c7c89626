"""The control of the quickstart as it is shipped, with the problems of `quickstart_toy`."""

from dataclasses import replace

from quickstart_toy import recipe as quickstart

from flywheel import load

shipped = load("control")
recipe = replace(quickstart, name=shipped.name, keep=shipped.keep, gate=shipped.gate)
