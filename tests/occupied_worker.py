"""A command that occupies a worker for a minute, as ``hepgan simulate`` does, without the seconds that coffea takes to load."""

import os
import sys
import time
from pathlib import Path

from hepgan import atomic
from hepgan.cli.signals import ending_cleanly
from hepgan.processors.workers import pool


def wait_in(folder: Path) -> None:
    """Writes half of a file into ``folder``, and another file named after the worker's process id."""
    with atomic.replace_on_success(folder / "part") as part:
        part.write_text("half")
        (folder / str(os.getpid())).touch()
        time.sleep(60)


def main(output: Path) -> None:
    """Occupies a worker that writes into a hidden folder beside ``output``."""
    with ending_cleanly(), atomic.hidden_folder(output) as folder, pool(1) as workers:
        workers.submit(wait_in, folder).result()


if __name__ == "__main__":
    import occupied_worker  # a module that workers find

    occupied_worker.main(Path(sys.argv[1]))
