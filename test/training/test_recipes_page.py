"""docs/recipes.md is what tools/recipes_page.py writes."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_recipe_keys_is_up_to_date() -> None:
    page = runpy.run_path(str(ROOT / "tools" / "recipes_page.py"))["page"]()
    assert (ROOT / "docs" / "recipes.md").read_text() == page, "run: python tools/recipes_page.py"
