"""ReST-EM as it is shipped, with lines of a file for the data of the Hub, on the toy engine."""

from dataclasses import replace

from toys import WEIGHTS, short

from data.files import Jsonl
from flywheel import load

shipped = load("rest-em")
template = shipped.prompts.template
recipe = replace(
    shipped,
    base=WEIGHTS,
    prompts=Jsonl("sums.jsonl", prompt="problem", reference="solution", template=template),
    sampling=replace(shipped.sampling, n=4),
    train=short(shipped.train),
    exam=replace(
        shipped.exam,
        prompts=Jsonl("later_sums.jsonl", prompt="problem", reference="solution", template=template),
    ),
    engine="toy",
)
