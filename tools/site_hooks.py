"""For mkdocs: links from the pages to files beside them (`../config/policy.yaml`) become the file's name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = re.compile(r"\[([^]]+)\]\(\.\./([^)#]+)\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by mkdocs for each page. ValueError where such a file does not exist: then the build fails."""

    def name(link: re.Match[str]) -> str:
        if not (ROOT / link[2]).exists():
            raise ValueError(f"{page.file.src_uri}: links to ../{link[2]}, which does not exist")
        return f"`{link[2]}`"

    return OUTSIDE.sub(name, markdown)
