import subprocess
import sys

_PROGRAM = """
import importlib, pkgutil, sys
from pathlib import Path
from numba.core.dispatcher import Dispatcher
from margipose import synthetic

synthetic.make_synthetic(Path(sys.argv[1]), 12, size=32)
for module in pkgutil.iter_modules(synthetic.__path__):
    module = importlib.import_module(f"margipose.synthetic.{module.name}")
    for name, value in vars(module).items():
        if isinstance(value, Dispatcher) and value.py_func.__module__ == module.__name__:
            print(module.__name__, name, value.stats.cache_path is not None, len(value.signatures))
"""


def test_what_is_kept_on_disk_is_compiled_for_arrays_of_one_type(tmp_path):
    """Processes that compile at the same time then write the same files."""
    found = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in found.stdout.splitlines()]
    kept = {f"{module}.{name}": int(count) for module, name, on_disk, count in rows if on_disk == "True"}
    assert "margipose.synthetic.body._skin" in kept
    assert {name for name, count in kept.items() if count > 1} == set()
