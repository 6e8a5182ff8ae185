"""Pip as a child: gone when the process that waits for it is killed."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
DOWNLOAD = """
import sys
from pathlib import Path
from models.data.sources.downloads import download_wheel
download_wheel("nothing==1.0", Path(sys.argv[1]), lambda *_: None)
"""


def test_pip_ends_with_a_killed_parent(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes pip's request and never answers
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        env = {**os.environ, "PIP_INDEX_URL": index, "PIP_CONFIG_FILE": os.devnull, "no_proxy": "127.0.0.1"}
        with subprocess.Popen([sys.executable, "-c", DOWNLOAD, str(tmp_path)], cwd=ROOT, env=env) as parent:
            silent.settimeout(60)
            connection, _ = silent.accept()
            with connection:
                (pip,) = psutil.Process(parent.pid).children()
                assert "download" in pip.cmdline()
                parent.kill()
                parent.wait()
                deadline = time.monotonic() + 5
                while pip.is_running() and pip.status() != psutil.STATUS_ZOMBIE:
                    assert time.monotonic() < deadline, "pip outlived its parent"
                    os.sched_yield()
