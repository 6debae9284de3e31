"""The table of `launches.py` for ROS's own launch: `launch/*.launch.py` are one call of `launch_description` each."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from pi0_ros.base.middleware import profiles_variable
from pi0_ros.launching.launches import LAUNCHES, Argument, Command, parse_arguments, resolve
from pi0_ros.launching.lifeline import launcher_variable
from pi0_ros.launching.lookups import look_up, look_up_executables
from pi0_ros.launching.processes import REFUSED, Ended, ros_environment
from pi0_ros.launching.surroundings import Look, check_names, nothing_around


def launch_description(name: str, look: Look = nothing_around) -> Any:
    """The `launch.LaunchDescription` of a table entry, for `launch/<name>.launch.py`. `look` sees what runs already.

    Everything is looked up before the first process starts. When a required process ends, or any other refuses to
    start, all end and `ros2 launch` returns 1.
    """
    from launch import LaunchContext, LaunchDescription
    from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable

    launch = LAUNCHES[name]

    def declare(argument: Argument) -> Any:
        default = str(argument.default).lower() if isinstance(argument.default, bool) else argument.default
        return DeclareLaunchArgument(
            argument.name, default_value=None if default is None else str(default), description=argument.help
        )

    def start(context: LaunchContext) -> list[Any]:
        given = {argument.name: context.launch_configurations[argument.name] for argument in launch.arguments}
        if any(Path(word).name == f"{name}.launch.py" for word in sys.argv):
            # Launch itself says nothing of a misspelt argument. One launch file among others gets theirs too.
            words = parse_arguments(word for word in context.argv if ":=" in word)
            given |= {key: value for key, value in words.items() if not key.startswith("launch-prefix")}
        commands = resolve(launch, given)
        look_up(commands)
        look_up_executables(commands)
        around = look(commands[0].namespace, [command.name for command in commands])
        said = check_names(commands, around)
        if around.description:
            kept = resolve(launch, given, around.description)
            left_out = {command.name for command in commands} - {command.name for command in kept}
            said += [f"{name} is left out: a driver publishes robot_description" for name in sorted(left_out)]
            commands = kept
        return [*(LogInfo(msg=text) for text in said), *(_node_action(command) for command in commands)]

    environment = ros_environment()
    profiles = profiles_variable(environment)
    profile = {profiles: environment[profiles]}
    return LaunchDescription(
        [
            *(SetEnvironmentVariable(variable, value) for variable, value in (profile | launcher_variable()).items()),
            *(declare(argument) for argument in launch.arguments),
            OpaqueFunction(function=start),
        ]
    )


def _node_action(command: Command) -> Any:
    from launch_ros.actions import Node
    from launch_ros.parameter_descriptions import ParameterValue

    def ended(event: Any, context: Any) -> None:
        end = Ended(command.name, event.returncode, command.required)
        if not context.is_shutdown and (command.required or event.returncode == REFUSED):
            raise RuntimeError(f"{end}: the others are stopped")  # the one way to an exit status that is not 0

    values: dict[str, Any] = {
        key: value if isinstance(value, list) else ParameterValue(value, value_type=type(value))
        for key, value in command.parameters.items()
    }
    setpriv = None if command.package == "pi0_ros" else shutil.which("setpriv")  # ours watch their launcher themselves
    return Node(
        package=command.package,
        executable=command.executable,
        name=command.name,
        namespace=command.namespace or None,
        parameters=[values],
        remappings=list(command.remaps.items()),
        arguments=list(command.options),
        ros_arguments=["--log-level", command.log_level],
        output="screen",
        emulate_tty=True,
        prefix=f"{setpriv} --pdeathsig TERM --" if setpriv else None,
        on_exit=ended,
    )
