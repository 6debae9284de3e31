#!/bin/sh
# Make the virtual environment, or complete the one that is there:  requirements/bootstrap.sh VENV [PYTHON]
#
# Where ROS 2 is sourced its own rclpy is used; elsewhere ROS 2 Jazzy comes as Python wheels. torch comes in its CPU build
# where no NVIDIA GPU is present: it is asked for by its exact local version, so that the CUDA build is never taken instead.
set -eu
venv=$1
python=${2:-python3}
torch=2.13.0
here=$(dirname "$0")

begun=$(date +%s)
steps=5
step=0
say() { printf '== %s\n' "$*"; }
next() {  # how far it is: the step, and the seconds so far
    step=$((step + 1))
    say "[$step/$steps, $(($(date +%s) - begun)) s] $*"
}
fail() { printf 'bootstrap: %s\n' "$*" >&2; exit 1; }

say "setting up $venv, once: five steps, three to six minutes, most of it downloads"
next "Python environment"
if [ ! -x "$venv/bin/python" ]; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "$python must be Python 3.10 or newer"
    "$python" -c 'import venv, ensurepip' 2>/dev/null || fail "venv is missing: sudo apt install python3-venv"
    if [ -n "${ROS_DISTRO:-}" ]; then
        "$python" -m venv --system-site-packages "$venv"
        touch "$venv/COLCON_IGNORE"
    else
        "$python" -m venv "$venv"
    fi
fi
python=$venv/bin/python

next "ROS 2"
if "$python" -c 'import rclpy' 2>/dev/null; then
    say "rclpy is there${ROS_DISTRO:+: ROS 2 $ROS_DISTRO is sourced}"
elif [ -n "${ROS_DISTRO:-}" ]; then
    fail "ROS 2 $ROS_DISTRO is sourced, but $("$python" --version) cannot import its rclpy: remove $venv and use the
distribution's own Python (make PYTHON=/usr/bin/python3)"
else
    [ "$(uname -sm)" = "Linux x86_64" ] || fail "ROS 2 has wheels for Linux x86_64 only: install ROS 2 and source it"
    say "Jazzy, from wheels: none is sourced"
    "$python" -m pip install -q -r "$here/ros-jazzy.txt"
fi

next "torch $torch"
if ! "$python" -c 'import torch' 2>/dev/null; then
    if nvidia-smi -L >/dev/null 2>&1; then
        say "for CUDA: some gigabytes"
        "$python" -m pip install -q "torch==$torch"
    else
        say "for CPU: no NVIDIA GPU is here"
        # First what pip is configured to find, then PyTorch's own index; its dependencies come with the package below.
        "$python" -m pip install -q --no-deps "torch==$torch+cpu" 2>/dev/null ||
            "$python" -m pip install -q --no-deps --retries 1 --extra-index-url https://download.pytorch.org/whl/cpu \
                "torch==$torch+cpu" ||
            fail "no CPU build of torch $torch for $("$python" --version): neither pip's sources nor PyTorch's index gave one.
If the network is there, use a Python that PyTorch builds for (make clean-venv demo PYTHON=python3.11). Or take the CUDA
build, some gigabytes:  $venv/bin/pip install torch==$torch  and then the same command again."
        "$python" -m pip install -q "torch==$torch+cpu"
    fi
fi

next "pi0_ros, editable, and what it and its tests use"
PYTHONWARNINGS=ignore "$python" -m pip install -q -e "$here/..[dev]"
# openpi's client, which tests talk to our server with; its own pins (numpy below 2) are for other machines.
"$python" -m pip install -q --no-deps "openpi-client==0.1.2" || say "openpi-client is not to be had: its tests are skipped"
next "mkdocs for the documentation's site"
"$python" -m pip install -q mkdocs-material || say "mkdocs-material is not to be had: the documentation's site is not built"
say "ready after $(($(date +%s) - begun)) s: $venv"
