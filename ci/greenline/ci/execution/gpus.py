"""The GPUs that this process may use."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from greenline.ci.execution.placement import Gpu

VISIBLE = "CUDA_VISIBLE_DEVICES"


def find_gpus(logical: int | None = None, environment: Mapping[str, str] = os.environ) -> tuple[Gpu, ...]:
    """What nvidia-smi lists, as far as CUDA_VISIBLE_DEVICES allows; or ``logical`` many, whether there are any or not.

    A name that nvidia-smi does not know (a part of a GPU, say) has memory 0, unknown.
    """
    outer = environment.get(VISIBLE)
    listed = {} if logical is not None else _listed()
    names = list(listed) if outer is None else [name.strip() for name in outer.split(",") if name.strip()]
    names = [name for name in names if not name.startswith("GPU-")] if outer is None else names
    if logical is not None:
        names = names[:logical] if outer is not None else [str(number) for number in range(logical)]
    return tuple(Gpu(name, listed.get(name, 0)) for name in names)


def _listed() -> dict[str, int]:
    """Index and UUID → bytes of memory; {} without nvidia-smi or a GPU."""
    command = ["nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return {}
    if done.returncode:
        return {}
    found = {}
    for line in done.stdout.splitlines():
        index, uuid, memory = (part.strip() for part in line.split(","))
        size = int(memory) * 2**20 if memory.isdecimal() else 0
        found.update({index: size, uuid: size})
    return found


def visible(
    gpus: tuple[Gpu, ...], devices: tuple[int, ...], environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The variables that show a process these devices and no others; () hides all of them."""
    order = {} if VISIBLE in environment else {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # nvidia-smi's
    return {VISIBLE: ",".join(gpus[number].name for number in devices), **order}
