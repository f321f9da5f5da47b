"""Runs functions in worker processes, which import only what the functions need.

The standard library's `multiprocessing` would import the user's script again in each worker, which fails where the
script has no `if __name__ == "__main__"`, and cannot start workers from daemonic processes.
"""

import functools
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from contextlib import suppress
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Protocol

from lmtrain.errors import UserError

# without the working directory, the first place of -c, where a file may have the name of a standard module
_CODE = "import sys; del sys.path[:1]; import pickle; sys.path[:] = pickle.load(sys.stdin.buffer); "
_CODE += "from lmtrain.program.pool import serve; serve()"


class ProcessEnded(UserError):
    """A worker process ended before it returned its result."""


class Pool(Protocol):
    """Runs functions, in this process or others."""

    def map(self, function: Callable[[Any, Any], Any], shared: Any, items: Iterable[Any]) -> Generator[Any, None, None]:
        """The values of `function(shared, item)`, in the order of the items."""


class Here:
    """Runs functions in this process."""

    def map(self, function: Callable[[Any, Any], Any], shared: Any, items: Iterable[Any]) -> Generator[Any, None, None]:
        yield from (function(shared, item) for item in items)


class Processes:
    """Runs functions in `count` worker processes, which end with the block, or with this process however it ends.

    Functions, arguments and results are pickled. `map` may be called in several threads.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="work of a process")
        self._free: SimpleQueue[subprocess.Popen] = SimpleQueue()
        self._all: list[subprocess.Popen] = []
        self._lock, self._is_closed = threading.Lock(), False

    def __enter__(self) -> "Processes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def map(self, function: Callable[[Any, Any], Any], shared: Any, items: Iterable[Any]) -> Generator[Any, None, None]:
        """The values of `function(shared, item)`, in the order of the items; close the generator if not all are taken.

        Raises:
            ProcessEnded: a worker was killed.
            CancelledError: the pool was closed.
        """
        data = pickle.dumps(shared)
        waiting = deque(self._threads.submit(self._run, (function, data, item)) for item in items)
        try:
            while waiting:
                yield waiting[0].result()
                waiting.popleft()
        finally:  # no item is worked on any more when an error is raised
            wait([future for future in waiting if not future.cancel()])  # wait() never returns for cancelled ones

    def close(self) -> None:
        """Kills the workers, whatever they are doing."""
        with self._lock:
            self._is_closed = True
            for process in self._all:
                process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in self._all:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    pipe.close()

    def _run(self, task: tuple) -> Any:
        process = self._taken()
        try:
            pickle.dump(task, process.stdin)
            process.stdin.flush()
            error, value = pickle.load(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            if self._is_closed:
                raise CancelledError from None
            raise _ended(process, self.count) from None
        self._free.put(process)
        if error is not None:
            raise error
        return value

    def _taken(self) -> subprocess.Popen:
        """A free worker, or a new one. As many threads as workers run, so there are at most `count`."""
        if not self._free.empty():
            return self._free.get()
        with self._lock:
            if self._is_closed:
                raise CancelledError
            process = _started()
            self._all.append(process)
        return process


def _ended(process: subprocess.Popen, count: int) -> ProcessEnded:
    process.kill()
    status = process.wait()
    if status > 0:
        return ProcessEnded(f"A process that prepares text has failed with status {status}; its message is above.")
    return ProcessEnded(
        f"A process that prepares text was killed (signal {-status}), most likely because memory ran out. Run the same "
        f"command with fewer of them: taskset -c 0-{max(0, count // 2 - 1)} COMMAND."
    )


def _started() -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", _CODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        start_new_session=True,  # Ctrl-C goes to this process only
    )
    with suppress(OSError):  # it has ended already, which its first task reports
        pickle.dump(sys.path, process.stdin)
        process.stdin.flush()
    return process


def serve() -> None:
    """Runs in a worker: reads tasks and writes results until its standard input is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # printed text must not get into the answers
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while True:
            function, shared, item = pickle.load(requests)
            answer: tuple[BaseException | None, Any]
            try:
                answer = None, function(_unpickled(shared), item)
            except (UserError, OSError, MemoryError) as error:
                answer = error, None
            except Exception:
                answer = RuntimeError(traceback.format_exc()), None
            pickle.dump(answer, answers)
            answers.flush()
    os._exit(0)


@functools.lru_cache(maxsize=1)
def _unpickled(data: bytes) -> Any:
    return pickle.loads(data)
