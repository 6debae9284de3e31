"""Make a whole bag of what a killed recorder left behind.

    python -m pi0_ros.bags.recovery bags/episode_000007.partial

writes `bags/episode_000007_recovered` with every message that reached the disk (all but at most the last half second),
marked as no success, and leaves the `.partial` folder as it is. `pi0 convert --include-failed` reads both.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pi0_ros.bags.episode_writer import PARTIAL
from pi0_ros.bags.mcap_writer import McapWriter, finish_bag
from pi0_ros.bags.metadata import MetadataError, parse_metadata
from pi0_ros.bags.salvage_mcap import SalvagedMcap, SalvageError
from pi0_ros.base.errors import InputError, report


def recover(partial: Path) -> Path:
    """Write the episode that `partial` holds to `<episode>_recovered`; returns that folder.

    Raises ValueError when there is no MCAP file or no whole message in it, FileExistsError when that was done before.
    """
    files = sorted(partial.glob("*.mcap"))
    if not files:
        raise InputError(f"{partial}: holds no MCAP file")
    try:
        left = SalvagedMcap(files[0])
    except SalvageError as error:
        raise InputError(f"{files[0]}: {error}; nothing can be recovered") from error
    try:
        custom_data = parse_metadata(left.metadata).custom_data
    except MetadataError:
        custom_data = {}
    folder = partial.with_name(f"{partial.name.removesuffix(PARTIAL)}_recovered")
    folder.mkdir()
    topics = {connection.topic: connection.msgtype for connection in left.connections}
    writer = McapWriter(folder / f"{folder.name}.mcap", topics)
    for connection, stamp_ns, data in left.messages(left.connections):
        writer.write(connection.topic, stamp_ns, data)
    finish_bag(writer, {**custom_data, "outcome": "interrupted", "success": "false"})
    return folder


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("partial", type=Path, nargs="+", help="folder of an unfinished episode")
    for partial in parser.parse_args().partial:
        try:
            print(recover(partial))
        except Exception as error:
            return report(error, "recovery")
    return 0


if __name__ == "__main__":
    sys.exit(main())
