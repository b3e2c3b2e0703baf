"""The child process around llama.cpp: one server, gone when its parent is.

Run as a file, so that nothing of the package is loaded here. Standard input's first line is the settings as JSON; its
end means that the parent is gone. Standard output carries one JSON line, ``{"port", "load_s"}``, once the server
answers. What llama.cpp prints until then goes to standard error, which is the log file. What it prints later may quote
requests, and is thrown away; only the traces of a crash still go there.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1


def main() -> None:
    faulthandler.enable(os.fdopen(os.dup(2), "wb"))
    settings: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    _die_with(settings["parent_pid"])
    # The answer keeps its own descriptor; llama.cpp's prints, on 1 as well, join the log.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    watch = threading.Thread(target=_watch_parent, daemon=True)
    watch.start()
    turn_over(Path(settings["log"]), settings["log_bytes_max"])
    begin = time.monotonic()
    server = _serve(settings)
    _fall_silent()
    port = int(server.listening_address.rpartition(":")[2])
    with answer:
        json.dump({"port": port, "load_s": time.monotonic() - begin}, answer)
        answer.write("\n")
    watch.join()


def _die_with(parent_pid: int) -> None:
    """Asks the kernel for our end when the parent ends, where it can be asked."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # it ended before we asked
            os._exit(0)


def _watch_parent() -> None:
    sys.stdin.buffer.read()
    # Not sys.exit: native threads are at work, and there is nothing to save.
    os._exit(0)


def _fall_silent() -> None:
    """What is printed from now on is about requests, and no file but the store holds a word of those."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def turn_over(log: Path, bytes_max: int) -> None:
    """Moves a log longer than ``bytes_max`` to ``LOG.1``. It is emptied in place: descriptors 1 and 2 stay on it."""
    if log.exists() and log.stat().st_size > bytes_max:
        shutil.copyfile(log, log.with_name(log.name + ".1"))
        os.truncate(log, 0)


def _serve(settings: dict[str, Any]) -> Any:
    xllamacpp: Any = importlib.import_module("xllamacpp")  # untyped, and loaded after the parent is watched
    params = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    params.model_alias = {settings["alias"]}
    params.hostnames = ["127.0.0.1"]
    params.port = settings["port"]
    params.api_keys = [settings["api_key"]]
    pool = settings["pool"]
    params.n_parallel = pool["slots"]
    params.n_ctx = pool["tokens"]
    params.kv_unified = pool["is_shared"]  # else every slot has its whole window, whatever the others do
    params.cache_type_k = params.cache_type_v = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{pool['cache'].upper()}")
    params.fit_params = False  # else the context may shrink to fit a device
    params.ctx_shift = False  # a prompt that is too long is an error, never silently cut
    params.n_predict = -1
    params.cpuparams.n_threads = settings["threads"]
    params.cpuparams_batch.n_threads = settings["threads"]
    params.n_threads_http = settings["http_threads"]
    params.cache_ram_mib = settings["prompt_cache_mib"]
    params.use_jinja = True
    params.ui = False
    params.embedding = False
    params.endpoint_slots = False
    params.endpoint_metrics = False
    params.endpoint_props = False
    params.verbosity = settings["verbosity"]
    params.cors_origins = ""
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
