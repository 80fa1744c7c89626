"""Where the files lie that a recipe names: a relative path means the recipe's folder, then the current one."""

import glob
from pathlib import Path

from flywheel.errors import RecipeError

_recipes: list[Path] = []
"""The folder of the recipe that was loaded last."""


def means(folder: Path) -> None:
    """From now on relative paths mean this folder."""
    _recipes[:] = [folder.resolve()]


def located(path: str | Path) -> Path:
    """The file or folder that a path in a recipe means; RecipeError where it could mean two.

    A path that is nowhere is given as one from the current folder, for whoever opens it to say so.
    """
    given = Path(path).expanduser()
    if given.is_absolute():
        return given
    found = {place.resolve(): place for place in (*(folder / given for folder in _recipes), given) if _there(place)}
    if len(found) > 1:
        folders = " and in ".join(str(place.parent) for place in found)
        raise RecipeError(f"{path} lies in {folders}: give the whole path")
    return next(iter(found.values()), given)


def _there(place: Path) -> bool:
    """Whether there is such a file or folder, or one that fits the pattern."""
    return place.exists() or any(glob.iglob(str(place)))
