"""The system calls that each unprivileged process may make: data for `system.syscalls.seccomp`.

A system call that a profile does not name fails with EPERM. Calls that our code never makes, but exploits begin with,
kill the process: an attempt is noticed, and can't be repeated.

The kernel gives a filter numbers only, so memory behind pointers (paths, addresses) can't be checked. Access to files
is limited by the account and by the empty root directory (`preauth.sandbox`).
"""

import msgspec

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
"""socket(2). getaddrinfo(3) asks netlink about the machine's own addresses."""

SOCKET_FAMILIES = (AF_UNIX, AF_INET, AF_INET6, AF_NETLINK)
"""Address families for forwards, key sources and name look-ups. The others (AF_ALG, AF_PACKET, AF_VSOCK, ...) have had
more than their share of the kernel's vulnerabilities."""

PROT_EXEC = 0x4
"""mmap(2): the memory may be executed."""

CLONE_THREAD = 0x10000
"""clone(2): a thread of this process, not another process."""

AT_EMPTY_PATH = 0x1000
"""fstatat(2): the status of the descriptor itself."""

FIONBIO, FIONREAD, FIOCLEX, FIONCLEX = 0x5421, 0x541B, 0x5451, 0x5450
"""ioctl(2): Python's calls for descriptors. The same numbers on x86-64 and aarch64 (asm-generic/ioctls.h)."""

TCGETS, TCSETS, TCSETSW, TCSETSF, TCSBRK = 0x5401, 0x5402, 0x5403, 0x5404, 0x5409
TIOCGPGRP, TIOCOUTQ, TIOCGWINSZ, TIOCSWINSZ = 0x540F, 0x5411, 0x5413, 0x5414
"""ioctl_tty(2), for a pty's master: modes, break, size. Not TIOCSTI, which types on somebody's terminal."""

SIOCGIFNAME, SIOCGIFINDEX = 0x8910, 0x8933
"""netdevice(7): getaddrinfo(3) looks up the index of the eth0 in fe80::1%eth0."""

F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC = 0, 1, 2, 3, 4, 1030
"""fcntl(2)."""


class Condition(msgspec.Struct, frozen=True):
    """A condition for one argument, counted from 0; if it is false, the call fails with EPERM.

    `one_of`: it is one of these. `all_of`: it has all of these bits. `none_of`: it has none of them. Only the low 32
    bits are looked at: the kernel takes no more of the arguments that are judged here, or defines no higher bits.
    """

    argument: int
    one_of: tuple[int, ...] = ()
    all_of: int = 0
    none_of: int = 0


class Profile(msgspec.Struct, frozen=True):
    """System calls by name, which is in `system.syscalls.numbers`.

    `allowed` are let through, `conditional` if their condition is true, `deadly` kill the process, `absent` fail with
    ENOSYS: the C library then takes an older call, whose arguments can be judged. All others fail with EPERM.
    """

    name: str
    allowed: frozenset[str]
    conditional: dict[str, Condition]
    deadly: frozenset[str]
    absent: frozenset[str] = frozenset()

    def __hash__(self) -> int:
        """By the name alone: `conditional` has no hash."""
        return hash(self.name)


def _calls(names: str) -> frozenset[str]:
    return frozenset(names.split())


_READ_AND_WRITE = _calls("read readv write writev recvfrom recvmsg sendto sendmsg close lseek fstat")
_WAIT = _calls("epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 poll ppoll select pselect6")
_SOCKET_OPTIONS = _calls("getsockopt setsockopt getsockname getpeername shutdown")
_MEMORY = _calls("brk madvise mremap munmap membarrier")
_TIME = _calls("clock_getres clock_gettime clock_nanosleep gettimeofday nanosleep time")
_SIGNALS = _calls("rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn sigaltstack")
_SELF = _calls(
    "exit exit_group futex getcpu getegid geteuid getgid getpid getppid getrandom getrusage gettid getuid"
    " restart_syscall rseq sched_getaffinity sched_yield set_robust_list uname"
)
_EVERYBODY = _READ_AND_WRITE | _WAIT | _SOCKET_OPTIONS | _MEMORY | _TIME | _SIGNALS | _SELF

_NEW_PROGRAM = _calls("execve execveat")
_OTHER_PROCESSES = _calls("ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp")
_IO_URING = _calls("io_uring_setup io_uring_enter io_uring_register")
"""Calls that are made through a queue in memory (io_uring) bypass every filter."""

_KERNEL = _calls(
    "add_key bpf chroot delete_module fanotify_init finit_module fsmount fsopen init_module kexec_file_load kexec_load"
    " keyctl mount move_mount open_by_handle_at open_tree perf_event_open pivot_root reboot request_key setns swapoff"
    " swapon umount2 unshare userfaultfd"
)
"""Calls for the administration of the machine only, and calls by which kernel vulnerabilities gave root's rights."""

_IDENTITY = _calls("capset setfsgid setfsuid setgid setgroups setregid setresgid setresuid setreuid setuid")
"""Changes of identity: the filter is installed last, when no rights are left to give up."""

_DEADLY = _NEW_PROGRAM | _OTHER_PROCESSES | _IO_URING | _KERNEL | _IDENTITY

_DESCRIPTOR_REQUESTS = (FIONBIO, FIONREAD, FIOCLEX, FIONCLEX)

PREAUTH = Profile(
    name="preauth",
    allowed=_EVERYBODY,
    conditional={
        # Python makes sockets non-blocking by FIONBIO, and pipes by F_SETFL.
        "ioctl": Condition(1, one_of=_DESCRIPTOR_REQUESTS),
        "fcntl": Condition(1, one_of=(F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL)),
        # asyncio's loop wakes itself through a pair, unless the loop is older than the filter.
        "socketpair": Condition(0, one_of=(AF_UNIX,)),
        # glibc's form of fstat(2), which signal.set_wakeup_fd calls. An exploit could pass a path, too, but
        # would only see a directory that is empty.
        "newfstatat": Condition(3, one_of=(AT_EMPTY_PATH,)),
        "mmap": Condition(2, none_of=PROT_EXEC),
        "mprotect": Condition(2, none_of=PROT_EXEC),
    },
    deadly=_DEADLY | _calls("accept accept4 bind connect listen socket"),
)
"""One connection of a stranger: an asyncio loop, its sockets, memory, time, cryptography. No path, no new socket, no
process, no memory that may be executed."""

SEALER = Profile(
    name="sealer",
    allowed=_EVERYBODY,
    conditional={
        "fcntl": Condition(1, one_of=(F_GETFD, F_GETFL)),
        "newfstatat": Condition(3, one_of=(AT_EMPTY_PATH,)),
        "mmap": Condition(2, none_of=PROT_EXEC),
        "mprotect": Condition(2, none_of=PROT_EXEC),
    },
    deadly=_DEADLY | _calls("accept accept4 bind clone clone3 connect listen socket socketpair"),
)
"""Compresses one file of the log into another one; both are open before. Nothing else."""

_FILES = _calls(
    "access chdir chmod faccessat faccessat2 fchdir fchmod fchmodat fchmodat2 fdatasync flock fstatfs fsync ftruncate"
    " getcwd getdents64 link linkat lstat mkdir mkdirat newfstatat open openat pread64 preadv preadv2 pwrite64 pwritev"
    " pwritev2 readlink readlinkat rename renameat renameat2 rmdir stat statfs statx symlink symlinkat umask unlink"
    " unlinkat utimensat"
)
_DESCRIPTORS = _calls(
    "close_range dup dup2 dup3 eventfd2 fcntl memfd_create pipe pipe2 splice sendfile copy_file_range"
)
_SOCKETS = _calls("accept accept4 bind connect listen recvmmsg sendmmsg socketpair")
_THREADS = _calls("get_robust_list gettid mmap mprotect set_tid_address sched_getparam sched_getscheduler")
_OURSELVES = _calls(
    "getgroups getpgid getpgrp getpriority getresgid getresuid getrlimit getsid prlimit64 setrlimit sysinfo times"
)
_IS_SOMEBODY = _EVERYBODY | _FILES | _DESCRIPTORS | _SOCKETS | _THREADS | _OURSELVES

_NAME_REQUESTS = (SIOCGIFNAME, SIOCGIFINDEX)
_TERMINAL_REQUESTS = (TCGETS, TCSETS, TCSETSW, TCSETSF, TCSBRK, TIOCGPGRP, TIOCOUTQ, TIOCGWINSZ, TIOCSWINSZ)

# clone3(2) takes its flags in memory, where no filter sees them; without it, glibc and musl take clone(2).
_NO_CLONE3 = frozenset({"clone3"})

MONITOR = Profile(
    name="monitor",
    allowed=_IS_SOMEBODY | _calls("pidfd_open"),
    conditional={
        "socket": Condition(0, one_of=SOCKET_FAMILIES),
        "clone": Condition(0, all_of=CLONE_THREAD),
        # TCGETS: Python's open() asks whether it opened a terminal.
        "ioctl": Condition(1, one_of=(*_DESCRIPTOR_REQUESTS, *_NAME_REQUESTS, TCGETS, TIOCGWINSZ)),
    },
    deadly=_DEADLY,
    absent=_NO_CLONE3,
)
"""Accepts connections, keeps its own files, asks key sources over HTTPS, looks names up, has threads, and waits
for the commands that hold the machine up. Starts no process and signals none."""

POSTAUTH = Profile(
    name="postauth",
    allowed=_IS_SOMEBODY | _calls("kill pidfd_open pidfd_send_signal tgkill"),
    conditional={
        "socket": Condition(0, one_of=SOCKET_FAMILIES),
        "clone": Condition(0, all_of=CLONE_THREAD),
        "ioctl": Condition(1, one_of=(*_DESCRIPTOR_REQUESTS, *_NAME_REQUESTS, *_TERMINAL_REQUESTS)),
    },
    deadly=_DEADLY,
    absent=_NO_CLONE3,
)
"""Runs as the user, with the calls for forwards, terminals and signals. The spawner starts the user's programs, which
have no filter."""

RECORDER = Profile(
    name="recorder",
    allowed=_EVERYBODY
    | _calls("getdents64 lstat mkdir mkdirat newfstatat open openat readlink stat statx unlink unlinkat"),
    conditional={
        "ioctl": Condition(1, one_of=_DESCRIPTOR_REQUESTS),
        "fcntl": Condition(1, one_of=(F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL)),
        "mmap": Condition(2, none_of=PROT_EXEC),
        "mprotect": Condition(2, none_of=PROT_EXEC),
    },
    deadly=_DEADLY | _calls("accept accept4 bind connect listen socket"),
)
"""Makes, writes and removes files below one directory, which is its root. No new socket, no process, no thread."""

ALL = (PREAUTH, MONITOR, POSTAUTH, RECORDER)
