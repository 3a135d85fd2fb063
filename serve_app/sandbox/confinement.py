"""What a media process may do: limits of resources, Landlock for files, seccomp for system calls.

The limits hold on every Linux. Landlock (Linux 5.13) and seccomp (with libseccomp) hold where the kernel and the
container's own rules have them; `available` says which.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_CLONE_THREAD = 0x00010000
_MAX_FILES = 64

# Files and memory that the process already has, threads, clocks, signals of its own. Everything else fails with ENOSYS:
# sockets, other programs, other processes, mounts, further shared memory.
_ALLOWED = (
    "read write readv writev pread64 pwrite64 preadv pwritev lseek close fstat stat lstat newfstatat statx access "
    "faccessat faccessat2 open openat readlink readlinkat getcwd getdents64 fcntl flock dup dup2 dup3 fsync fdatasync "
    "ftruncate fallocate fadvise64 unlink unlinkat rename renameat renameat2 "
    "mmap munmap mprotect mremap madvise brk mincore msync membarrier "
    "futex futex_waitv set_robust_list get_robust_list rseq set_tid_address sched_yield sched_getaffinity "
    "sched_getparam sched_getscheduler getpriority "
    "poll ppoll select pselect6 nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time "
    "getrandom getpid gettid getppid getuid geteuid getgid getegid uname sysinfo getrusage getrlimit times "
    "rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack restart_syscall exit exit_group "
    "sendmsg recvmsg sendto recvfrom"
)


@dataclass(frozen=True, slots=True)
class Confinement:
    """The limits of one process.

    readable: files that it may read, and directories whose files it may read; beside them the interpreter's modules.
    writable: directories whose regular files it may read, write, create, rename and remove.
    memory_bytes: by which its address space may grow. cpu_s: seconds of all threads together. file_bytes: of each file
        that it writes; 0: it writes none.
    """

    readable: tuple[Path, ...]
    writable: tuple[Path, ...]
    memory_bytes: int
    cpu_s: float
    file_bytes: int


def available() -> tuple[str, ...]:
    """Which of "landlock" and "seccomp" this system has."""
    return tuple(name for name, has in (("landlock", _landlock()), ("seccomp", _seccomp())) if has)


def confine(limits: Confinement, parent: int) -> None:
    """Confine this process, which must have one thread, for good. It ends when its `parent` does."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    has = available()  # imports what could not be read later
    _limit(limits)
    if "landlock" in has:
        _restrict_files(limits.readable, limits.writable)
    if "seccomp" in has:
        _filter_calls()


def _limit(limits: Confinement) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + limits.memory_bytes
    cpu = max(1, round(limits.cpu_s))
    for what, soft, hard in (
        (resource.RLIMIT_AS, memory, memory),
        (resource.RLIMIT_CPU, cpu, cpu + 5),  # SIGXCPU, and SIGKILL if the process does not heed it
        (resource.RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes),
        (resource.RLIMIT_NOFILE, _MAX_FILES, _MAX_FILES),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        most = resource.getrlimit(what)[1]
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        resource.setrlimit(what, (soft, hard))


@cache
def _landlock() -> bool:
    from landlock.plumbing import landlock_abi_version

    try:
        return bool(landlock_abi_version() >= 1)
    except Exception:  # its own class, with the reason: too old, not built in, switched off
        return False


def _restrict_files(readable: Sequence[Path], writable: Sequence[Path]) -> None:
    import av
    import numpy
    from landlock.plumbing import FSAccess, landlock_abi_version
    from landlock.porcelain import Ruleset

    write = FSAccess.READ_FILE | FSAccess.WRITE_FILE | FSAccess.MAKE_REG | FSAccess.REMOVE_FILE
    if landlock_abi_version() >= 3:
        write |= FSAccess.TRUNCATE
    rules = Ruleset()  # everything is forbidden
    for path in map(Path, (os.__file__, numpy.__file__, av.__file__)):  # some modules are imported by calls
        rules.allow(path.parent, rules=FSAccess.READ_FILE | FSAccess.READ_DIR)
    for path in readable:
        rules.allow(path, rules=FSAccess.READ_FILE)
    for path in writable:
        rules.allow(path, rules=write)
    rules.apply()


@cache
def _seccomp() -> bool:
    try:
        import pyseccomp
    except RuntimeError:  # libseccomp is not installed
        return False
    return bool(pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, "read") >= 0) and _kernel_filters()


def _kernel_filters() -> bool:
    return "Seccomp:" in Path("/proc/self/status").read_text()


def _filter_calls() -> None:
    import pyseccomp as seccomp

    rules = seccomp.SyscallFilter(seccomp.ERRNO(errno.ENOSYS))

    def allow(name: str, *conditions: Any) -> None:
        number = seccomp.resolve_syscall(seccomp.Arch.NATIVE, name)
        if number >= 0:  # some do not exist on every processor
            rules.add_rule(seccomp.ALLOW, number, *conditions)

    for name in _ALLOWED.split():
        allow(name)
    allow("clone", seccomp.Arg(0, seccomp.MASKED_EQ, _CLONE_THREAD, _CLONE_THREAD))
    allow("tgkill", seccomp.Arg(0, seccomp.EQ, os.getpid()))  # abort()
    allow("prlimit64", seccomp.Arg(0, seccomp.EQ, 0), seccomp.Arg(2, seccomp.EQ, 0))  # to read its limits
    rules.load()
