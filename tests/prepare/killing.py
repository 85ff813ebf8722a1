"""Preparations that are killed while they write."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def prepare_until_killed(name, src, dest):
    """Prepare in a process of its own, which is killed after some twenty images; the images' folder."""
    command = [sys.executable, "-m", "margipose.cli", "prepare", name, str(src), str(dest)]
    process = subprocess.Popen([*command, "--workers", "1"], cwd=ROOT, stdout=subprocess.DEVNULL)
    images = dest / "images"
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if images.is_dir() and len(list(images.iterdir())) > 20:
            break
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return images
