"""Converting bags on a Ray cluster: `pi0 convert --engine ray`.

A task converts one bag on whatever machine has a free CPU and sends the finished episodes back, so only the bags have
to be visible everywhere, under the same path; the dataset is joined where the command runs. Every machine needs the
same version of this package. What is finished is kept there: the same command goes on after a kill.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import socket
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pi0_ros.conversion.jobs import Job, begin, finish, write_report
from pi0_ros.conversion.report import BagReport
from pi0_ros.datasets.layout import DatasetError


def run_on_ray(
    jobs: Sequence[Job], tasks: int | None = None, address: str | None = None
) -> Iterator[tuple[int, BagReport]]:
    """Run `jobs` on the cluster at `address` (None: one that is started on this machine), `tasks` at a time.

    The default is one task for each CPU of the cluster. Raises `DatasetError` where Ray is missing or unreachable.
    """
    try:
        import ray
    except ImportError as error:
        raise DatasetError("--engine ray needs Ray: pip install 'pi0_ros[ray]'") from error
    inside = ray.is_initialized()  # called from a program that has its cluster already
    if not inside:
        _check_reachable(address)
        cpus = None if address else tasks
        try:
            quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
            ray.init(address, num_cpus=cpus, include_dashboard=False, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise DatasetError(f"no Ray cluster at {address or 'this machine'}: {error}") from error
    try:
        limit = tasks or max(1, int(ray.cluster_resources().get("CPU", 1)))
        remote = ray.remote(num_cpus=1, max_retries=3)(_convert_and_pack)  # tried again when its machine goes away
        waiting = [number for number, job in enumerate(jobs) if not (job.folder and job.folder.is_dir())]
        for number in sorted(set(range(len(jobs))) - set(waiting)):
            yield number, finish(jobs[number])
        running: dict[Any, int] = {}
        while waiting or running:
            while waiting and len(running) < limit:
                number = waiting.pop(0)
                running[remote.remote(jobs[number], jobs[number].bag.absolute())] = number
            (done,), _ = ray.wait(list(running), num_returns=1)
            number = running.pop(done)
            yield number, _unpack(jobs[number], *ray.get(done))
    except ray.exceptions.RayTaskError as error:
        raise DatasetError(f"a conversion failed on the cluster: {error.cause}") from error
    except ray.exceptions.RayError as error:
        raise DatasetError(
            f"the Ray cluster failed: {error}; finished bags are kept, give the command again"
        ) from error
    finally:
        if not inside:
            ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Raises `DatasetError` where nothing listens at HOST:PORT; Ray itself would wait for many minutes."""
    if address is None or "://" in address or ":" not in address:
        return
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise DatasetError(f"no Ray cluster at {address}: {error}") from error


def _convert_and_pack(job: Job, bag: Path) -> tuple[BagReport, bytes]:
    """Convert the job's bag, which is at the absolute path `bag` here too, where the working folder is another one.

    Returns its report and its folder as an uncompressed zip.
    """
    if job.folder is None:
        return dataclasses.replace(finish(dataclasses.replace(job, bag=bag)), bag=str(job.bag)), b""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / job.folder.name
        report = dataclasses.replace(finish(dataclasses.replace(job, bag=bag, folder=folder)), bag=str(job.bag))
        if report.status == "rejected":
            return report, b""
        write_report(folder, report)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(folder))
        return report, packed.getvalue()


def _unpack(job: Job, report: BagReport, packed: bytes) -> BagReport:
    """Put a folder that came back under its final name."""
    if job.folder is not None and packed:
        unfinished = begin(job.folder)
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            archive.extractall(unfinished)
        unfinished.rename(job.folder)
    return report
