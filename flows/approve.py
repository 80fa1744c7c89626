"""A human's word on a promotion, asked for in Prefect's UI: the flow run is suspended until the form is filled in."""

from prefect import suspend_flow_run
from prefect.input import RunInput
from prefect.runtime import deployment
from pydantic import Field

from flows.artifacts import flips, markdown_line
from flywheel.pipeline import approve
from flywheel.pipeline.iteration import Iteration

PATIENCE_SECONDS = 7 * 24 * 3600
"""How long a form waits. After that the flow run fails, and the next one asks again."""


class ApprovalForm(RunInput):
    """The form."""

    approve: bool = Field(description="Whether the new checkpoint becomes the policy.")
    because: str = Field("", description="Why, in a few words; the decision will say so.")
    author: str = Field("somebody in the UI", description="Who says so.")


def obtain(iteration: Iteration) -> bool:
    """Whether the form has been filled in, so that examine can decide; the verdict is then in the store.

    The flow run ends here until then, and its process too: it is run again from the top. A flow run without a
    deployment cannot be run again by itself, so there nobody is asked.
    """
    asked = approve.waiting_promotion(iteration.store, iteration.run)
    if asked is None or not deployment.id:
        return asked is None
    form = ApprovalForm.with_initial_data(description=evidence(iteration, asked))
    said = suspend_flow_run(wait_for_input=form, timeout=PATIENCE_SECONDS, key=f"iteration-{iteration.number}")
    approve.record_verdict(iteration.store, iteration.run, said.approve, said.author, said.because)
    return True


def evidence(iteration: Iteration, asked: approve.Asked) -> str:
    """What the promotion rests on, in Markdown."""
    parts = [
        f"**{iteration.recipe.name}, iteration {asked.number}**: promote {asked.candidate}?",
        markdown_line(f"To be {asked.said}", 2000),
        *flips(iteration.store, asked.candidate, asked.incumbent, asked.exam),
        f"More of it: `flywheel report{approve.at_home(iteration.home.resolve())}`, artifacts of this flow run.",
    ]
    return "\n\n".join(parts)
