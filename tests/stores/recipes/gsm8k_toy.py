"""GSM8K's recipe as it is shipped, with the toy's base, engine and trainer; settings name the folder of its data."""

from dataclasses import replace

from toys import WEIGHTS, short

from flywheel import load

shipped = load("gsm8k")
recipe = replace(
    shipped,
    base=WEIGHTS,
    sampling=replace(shipped.sampling, n=3),
    train=short(shipped.train),
    engine="toy",
)
