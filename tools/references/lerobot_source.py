"""Make a release's source of LeRobot importable here: without torchvision, and below Python 3.12 where it has to be.

    git -C lerobot archive v0.6.1 src | tar -x -C /tmp/lerobot-0.6.1
    python lerobot_source.py /tmp/lerobot-0.6.1/src

changes that copy in place: type parameters are written as Python 3.11 has them, and an empty `no_torchvision` stands in
for torchvision, of which policies and processors use nothing. No formula is touched. Put the folder on PYTHONPATH.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_STUB = '''"""An empty torchvision: whatever is asked of it exists and does nothing."""
import importlib.abc
import importlib.machinery
import sys
import types


class Anything(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.startswith("no_torchvision."):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return Anything(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, Finder())
__version__ = "0.0"
'''
_CLASS = re.compile(r"^(\s*class \w+)\[([^\]]+)\](?:\(([^)]*)\))?:", re.M)
_FUNCTION = re.compile(r"^(\s*(?:async )?def \w+)\[([^\]]+)\]\(", re.M)
_TORCHVISION = re.compile(r"^(\s*)(from|import) (torchvision)\b([.\w]*)", re.M)
_ALIAS = re.compile(r"^(\s*)type (\w+)(?:\[[^\]]+\])? = ", re.M)


def older_syntax(text: str) -> str:
    """Write `class A[T]`, `def f[T]` and `type X = ...` as Python 3.11 has them."""
    names: set[str] = set()

    def parameters(listed: str) -> str:
        found = [part.split(":")[0].split("=")[0].strip() for part in listed.split(",")]
        names.update(found)
        return ", ".join(found)

    def of_class(match: re.Match[str]) -> str:
        bases = [match[3]] if match[3] else []
        return f"{match[1]}({', '.join([*bases, f'_typing.Generic[{parameters(match[2])}]'])}):"

    def of_function(match: re.Match[str]) -> str:
        parameters(match[2])
        return f"{match[1]}("

    changed = _ALIAS.sub(r"\1\2 = ", _FUNCTION.sub(of_function, _CLASS.sub(of_class, text)))
    if changed == text:
        return text
    lines = ["import typing as _typing", *(f'{name} = _typing.TypeVar("{name}")' for name in sorted(names))]
    after = re.search(r"^from __future__ import .*$", changed, re.M)
    place = after.end() + 1 if after else 0
    return changed[:place] + "\n".join(lines) + "\n" + changed[place:]


def _stubbed(match: re.Match[str]) -> str:
    name = f" as {match[3]}" if match[2] == "import" and match[4] == "" else ""
    return f"{match[1]}{match[2]} no_{match[3]}{match[4]}{name}"


def prepare(source: Path) -> None:
    """Change the copy `source`, which holds the package `lerobot`."""
    (source / "no_torchvision").mkdir(exist_ok=True)
    (source / "no_torchvision" / "__init__.py").write_text(_STUB)
    for path in (source / "lerobot").rglob("*.py"):
        text = path.read_text()
        if (changed := _TORCHVISION.sub(_stubbed, older_syntax(text))) != text:
            path.write_text(changed)
            print(path.relative_to(source))


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
