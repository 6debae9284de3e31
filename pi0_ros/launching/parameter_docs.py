"""The files that show every parameter: `config/policy.yaml` and the tables of the reference."""

from __future__ import annotations

import textwrap

from pi0_ros.base.errors import InputError
from pi0_ros.launching.parameter import Parameter, describe, yaml_value
from pi0_ros.launching.parameters import NODES

YAML_HEAD = """\
# Every ROS parameter of every node, with its default. Copy it, keep the lines that you change, and start with
#     ros2 launch pi0_ros policy.launch.py params_file:=my.yaml ...      (or pi0 up policy params_file:=my.yaml ...)
# Launch arguments win over this file. What belongs to the robot (topics, joints, limits, rates) is in its robot file.
# Every node also has ROS's own use_sim_time. Written by tools/parameters.py from pi0_ros/launching/parameters.py.
"""
WIDTH, COMMENT_AT = 120, 34


def policy_yaml() -> str:
    """The text of `config/policy.yaml`."""
    blocks = [YAML_HEAD]
    for node, parameters in NODES.items():
        lines = [f"{node}:", "  ros__parameters:"]
        for parameter in parameters:
            lines += _yaml_lines(parameter)
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _yaml_lines(parameter: Parameter) -> list[str]:
    entry = f"    {parameter.name}: {yaml_value(parameter.default)}"
    column = max(COMMENT_AT, len(entry) + 2)
    words = textwrap.wrap(describe(parameter), WIDTH - COMMENT_AT - 2)
    if column > COMMENT_AT:  # a long default: its comment goes below it
        return [entry, *(" " * COMMENT_AT + f"# {line}" for line in words)]
    first, *more = words
    return [entry.ljust(COMMENT_AT) + f"# {first}", *(" " * COMMENT_AT + f"# {line}" for line in more)]


BEGIN = "<!-- parameters: written by tools/parameters.py -->"
END = "<!-- parameters: end -->"


def reference_tables() -> str:
    """The parameters of every node as Markdown tables, between BEGIN and END."""
    blocks = [BEGIN]
    for node, parameters in NODES.items():
        rows = [
            f"| `{p.name}` | {p.kind} | `{yaml_value(p.default)}` | {p.unit} | {_allowed(p)} | {p.text} | "
            f"{p.changes.value} |"
            for p in parameters
        ]
        head = ["| name | type | default | unit | allowed | | may change |", "|---|---|---|---|---|---|---|"]
        blocks.append("\n".join([f"### {node}", "", *head, *rows]))
    return "\n\n".join([*blocks, END])


def _allowed(parameter: Parameter) -> str:
    if parameter.choices:
        return ", ".join(f"`{choice}`" if choice else "empty" for choice in parameter.choices)
    word = f"`{parameter.word}`, " if parameter.word else ""
    return f"{word}{parameter.range[0]} to {parameter.range[1]}" if parameter.range else ""


def with_tables(page: str) -> str:
    """`page` (Markdown) with the tables between BEGIN and END as they are now."""
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise InputError(f"the page lacks {BEGIN} ... {END}")
    return before + reference_tables() + after
