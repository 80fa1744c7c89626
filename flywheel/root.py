"""Where our packages lie, and that they are found there, whatever the current folder holds."""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES_BESIDE = ("judges", "filters", "data", "flows")


class Beside:
    """Finds the packages that come with this one before anything of their names in a folder of the user's."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """As importlib wants it."""
        folder = ROOT / name
        if name not in PACKAGES_BESIDE or not (folder / "__init__.py").is_file():
            return None
        return spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])


def refuse_strangers() -> None:
    """A module of one of these names that is loaded already cannot be the one that is meant."""
    for name in PACKAGES_BESIDE:
        loaded = sys.modules.get(name)
        places = [getattr(loaded, "__file__", None) or "", *getattr(loaded, "__path__", ())]
        if loaded is not None and not any(Path(place).is_relative_to(ROOT / name) for place in places if place):
            raise ImportError(
                f"flywheel comes with a package `{name}`, but {places[-1] or places[0] or 'another one'} is loaded "
                "under this name: import flywheel first, or give your module another name"
            )


refuse_strangers()
if not any(finder.__name__ == "Beside" for finder in sys.meta_path if isinstance(finder, type)):
    sys.meta_path.insert(0, Beside)
