"""Every error that a user can meet, as one clear sentence: what is wrong, where, and what to do.

    FlywheelError
      RecipeError      the recipe or a --set override is wrong; nothing has been started
      SourceError      prompts cannot be read: no such file, a missing column, an empty split
      StoreError       the store is locked, newer than this program, or refuses a row
        ExamLeak       a training row comes from an exam prompt
      WeightsError     a base or checkpoint does not exist, is corrupt, or does not fit
      EngineError      an engine failed in a way that a restart may cure; steps retry it
        EngineMissing  the engine's library is not installed; never retried
        PromptTooLong  a prompt does not fit the context; never retried
      TrainingError    the training child failed; its last words are in the message
      AlreadyRunning   another process runs the same run in the same home
      ApprovalNeeded   a promotion waits for a human's verdict; what it rests on is stored
      HealthAlarm      a judge has crossed a red line of the recipe; what it said is stored, nothing was trained
      RatingError      comparisons cannot be rated: a player meets itself, the anchor is unknown, there are none

The command line prints the message alone and exits with 2; a traceback is shown only for bugs.
"""

from collections.abc import Sequence


class FlywheelError(Exception):
    """Base of the tree above. The message is for the user."""


class RecipeError(FlywheelError):
    """The recipe is wrong; nothing has been started."""


class SourceError(FlywheelError):
    """Prompts cannot be read."""


class StoreError(FlywheelError):
    """The store cannot be used, or refuses a row."""


class ExamLeak(StoreError):
    """A training row comes from an exam prompt."""


class WeightsError(FlywheelError):
    """Weights are missing, corrupt or do not fit."""


class EngineError(FlywheelError):
    """An engine failed."""


class EngineMissing(EngineError):
    """An engine's library is not installed."""


class PromptTooLong(EngineError):
    """Prompts that do not fit the context. `prompts` are their places in the call, as far as the engine knows them."""

    def __init__(self, message: str, prompts: Sequence[int]) -> None:
        super().__init__(message)
        self.prompts = frozenset(prompts)

    def __reduce__(self) -> tuple[type, tuple[str, list[int]]]:
        """It comes out of another process as it went in."""
        return type(self), (str(self), sorted(self.prompts))


class TrainingError(FlywheelError):
    """A training failed."""


class RatingError(FlywheelError):
    """Comparisons cannot be rated."""


class AlreadyRunning(FlywheelError):
    """Another process runs the same run."""


class ApprovalNeeded(FlywheelError):
    """A promotion waits for a human."""


class HealthAlarm(FlywheelError):
    """A judge has crossed a red line."""
