"""``trak``, or a script, in a process in which no code of a user was imported, and nothing registered, yet.

A server, one for each process of the test suite, has imported the program once and forks a child for every call. Starting the
program itself takes two seconds, and so does importing torch in a script.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
import types
from pathlib import Path
from typing import Any

STAGES = ("doctor", "eval_lds", "featurize", "finalize", "retrain", "score", "train", "tune", "unroll")


def fresh_trak(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Call the program in ``folder``, with these environment variables in addition."""
    return _call(folder, ["trak", *arguments], environment)


def fresh_python(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """``python SCRIPT ARGUMENT...`` or ``python -c CODE ARGUMENT...`` in ``folder``."""
    return _call(folder, ["python", *command], {})


def _call(folder: Path, arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as texts:
        out, err = Path(texts) / "stdout", Path(texts) / "stderr"
        request = {"folder": str(folder), "arguments": arguments, "environment": environment, "files": [str(out), str(err)]}
        server = _server()
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())


@functools.cache
def _server() -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).resolve())]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin is not None
    atexit.register(server.stdin.close)  # it ends when there can be no more requests
    return server


def serve() -> None:
    """Answer each line of stdin, a request, with the exit code of its child."""
    del sys.path[0]  # the folder of the tests
    import torch

    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    for stage in STAGES:
        importlib.import_module(f"trak_cli.stages.{stage}")
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _run(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(request: dict[str, Any]) -> None:
    """The program or the script, in a child; it does not return."""
    code = 1
    try:
        os.chdir(request["folder"])
        os.environ.update(request["environment"])
        for descriptor, path in zip((1, 2), request["files"], strict=True):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        program, *arguments = request["arguments"]
        if program == "python":
            _run_python(*arguments)
        else:
            _run_trak(*arguments)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run_trak(*arguments: str) -> None:
    sys.argv = ["trak", *arguments]
    from trak_cli.__main__ import main

    main()


def _run_python(first: str, *arguments: str) -> None:
    if first == "-c":
        code, *rest = arguments
        sys.argv, sys.path[:0] = ["-c", *rest], [""]
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(code, "<string>", "exec"), vars(module))
    else:
        sys.argv, sys.path[:0] = [first, *arguments], [str(Path(first).resolve().parent)]
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    serve()
