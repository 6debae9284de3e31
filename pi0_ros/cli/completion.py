"""Completion of `pi0` by the Tab key: commands, options, choices, robots, launch files and their arguments.

    . <(pi0 completion bash)         in ~/.bashrc
    . <(pi0 completion zsh)          in ~/.zshrc, after compinit

The script asks `pi0 completion words -- WORDS`, whose last word is the one being written, for every word that fits.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from pi0_ros.base.share import config_path

# Words are split here by spaces alone: bash itself also ends one at a colon or an equals sign, and takes the rest only.
SCRIPT = """\
_pi0() {
    local line=${COMP_LINE:0:COMP_POINT} cur= cut= word
    [[ $line == *[[:space:]] ]] || cur=${line##*[[:space:]]}
    [[ -n $BASH_VERSION ]] && cut=${cur%"${cur##*[:=]}"}
    COMPREPLY=()
    while IFS= read -r word; do
        COMPREPLY+=("${word#"$cut"}")
    done < <(pi0 completion words -- ${line%"$cur"} "$cur" 2>/dev/null)
}
complete -o default -o nospace -F _pi0 pi0
"""
ZSH = "autoload -Uz bashcompinit && bashcompinit\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 completion`."""
    parser.add_argument("shell", choices=("bash", "zsh", "words"), help="whose script to print; words: see above")
    parser.add_argument("words", nargs="*", help="the command line, `pi0` first, up to the cursor")


def run(args: argparse.Namespace) -> int:
    """`pi0 completion`: always 0."""
    if args.shell == "words":
        for word in candidates(args.words[1:]):
            print(word)
    else:
        print((ZSH if args.shell == "zsh" else "") + SCRIPT, end="")
    return 0


def candidates(words: Sequence[str]) -> list[str]:
    """What may stand for the last of `words`, the words after `pi0`; a space behind what is whole."""
    from pi0_ros.cli.main import COMMANDS, command_parser

    *before, current = words or [""]
    if not before:
        return fitting(COMMANDS, current)
    if before[0] not in COMMANDS:
        return []
    parser = command_parser(before[0])
    actions = next((action for action in parser._actions if isinstance(action, argparse._SubParsersAction)), None)
    if actions is not None:
        if len(before) == 1:
            return fitting(actions.choices, current)
        if before[1] not in actions.choices:
            return []
        parser = actions.choices[before[1]]
    flag = next((action for action in parser._actions if before[-1] in action.option_strings), None)
    if flag is not None and flag.nargs != 0:
        return fitting(_values(flag), current)
    if before[0] == "up" and not current.startswith("-"):
        return _launch_words(before[1:], current)
    if current.startswith("-"):
        return fitting([option for action in parser._actions for option in action.option_strings], current)
    places = [action for action in parser._actions if not action.option_strings]
    return fitting([value for action in places for value in _values(action)], current)


def _values(action: argparse.Action) -> Iterable[str]:
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    return sorted(path.stem for path in config_path("robots").glob("*.yaml")) if action.dest == "robot" else []


def _launch_words(before: Sequence[str], current: str) -> list[str]:
    from pi0_ros.launching.launches import LAUNCHES

    file = next((word for word in before if word in LAUNCHES), None)
    if file is None:
        return fitting(LAUNCHES, current)
    arguments = {argument.name: argument for argument in LAUNCHES[file].arguments}
    name, is_value, _ = current.partition(":=")
    if not is_value:
        return [f"{argument}:=" for argument in arguments if argument.startswith(current)]
    argument = arguments.get(name)
    values: Iterable[str] = ()
    if argument is not None and isinstance(argument.default, bool):
        values = ("true", "false")
    elif argument is not None and argument.parameter is not None:
        values = argument.parameter.choices
    if name == "robot":
        values = sorted(path.stem for path in config_path("robots").glob("*.yaml"))
    return fitting([f"{name}:={value}" for value in values], current)


def fitting(words: Iterable[str], current: str) -> list[str]:
    """Those that begin with `current`, each followed by a space."""
    return [f"{word} " for word in words if word.startswith(current)]
