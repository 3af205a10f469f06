"""A private real Slurm for tests: munge, slurmctld, several slurmd, and slurmdbd with MariaDB for `sacct`.

Everything lives in one short temporary folder, listens on loopback only, and runs as root or as an ordinary user.
Debian has the programs in ``slurmctld slurmd slurm-client munge``, and for accounting in
``slurmdbd mariadb-server-core mariadb-client-core``; no daemon of the system is used or changed.

::

    with PrivateSlurm(nodes=2) as cluster:
        job = cluster.run("sbatch", "--parsable", "--wrap", "hostname").strip()
        wait_until(lambda: cluster.squeue().get(job) == "COMPLETED", "the job is done")
"""

from __future__ import annotations

import os
import pwd
import random
import shutil
import socket
import string
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from . import cluster_files
from .daemons import ClusterError, Daemon, free_ports, listens

__all__ = ["ClusterError", "PrivateSlurm", "missing_programs"]

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo")
_ACCOUNTING_PROGRAMS = ("slurmdbd", "sacct", "sacctmgr", "mariadbd", "mariadb-install-db")

# Ordinary users do not have these on their PATH, and daemons live there.
_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")

# A unix socket's whole path may have 107 bytes, and the longest of ours, of a job step, adds about 45 to the folder.
_LONGEST_FOLDER = 60

# The limit on start-up that is only ever used up when something is wrong; on two idle cores it takes 3 s.
_PATIENCE = 90.0


def _search_path() -> str:
    present = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join([*present, *(folder for folder in _SYSTEM_FOLDERS if folder not in present)])


def missing_programs(accounting: bool = True) -> list[str]:
    """Return the programs that `PrivateSlurm` needs and this machine does not have; empty when it can start."""
    wanted = _PROGRAMS + (_ACCOUNTING_PROGRAMS if accounting else ())
    return [name for name in wanted if shutil.which(name, path=_search_path()) is None]


class PrivateSlurm:
    """A running Slurm of one's own; use it with ``with``, or `start` and `stop` it.

    `nodes` slurmds of `cpus` virtual CPUs each run on this host in the one partition ``main``. `config_lines` are
    added to slurm.conf and win over what stands there, ``"MaxArraySize=20001"`` for example. With `memory_limits`
    a job that takes more memory than it asked for ends as OUT_OF_MEMORY, which needs root and control groups.
    With `accounting` the caller has an association with the account ``test``.
    """

    def __init__(
        self,
        folder: Path | str | None = None,
        nodes: int = 4,
        cpus: int = 8,
        accounting: bool = True,
        config_lines: Sequence[str] = (),
        memory_limits: bool = False,
    ) -> None:
        self._wanted_folder = None if folder is None else Path(folder).absolute()
        self._cpus = cpus
        self._accounting = accounting
        self._config_lines = tuple(config_lines)
        self._memory_limits = memory_limits
        #: The name of the cluster, unique on this host.
        self.name = "r" + "".join(random.choices(string.ascii_lowercase, k=6))
        #: The names of the nodes.
        self.nodes = tuple(f"{self.name}n{number}" for number in range(1, nodes + 1))
        self._layout: cluster_files.Layout | None = None
        self._daemons: dict[str, Daemon] = {}

    def __enter__(self) -> PrivateSlurm:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def folder(self) -> Path:
        """The folder of the running cluster."""
        return self._running_layout.folder

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which Slurm's commands speak to this cluster: SLURM_CONF, and a PATH that has them."""
        return {"SLURM_CONF": str(self._running_layout.slurm_conf), "PATH": _search_path()}

    def start(self) -> None:
        """Start the daemons and return once all nodes are idle, after about 1 s, with accounting 3 s.

        Raises `ClusterError` with the end of a daemon's log, and leaves nothing running then.
        """
        if self._layout is not None:
            raise ClusterError(f"the private Slurm in {self.folder} runs already: stop it first")
        missing = missing_programs(self._accounting)
        if missing:
            raise ClusterError(f"cannot start a private Slurm: missing {', '.join(missing)}")
        self._layout = self._make_layout()
        with ExitStack() as undo:
            undo.callback(self.stop)
            self._write_files()
            self._start_authentication()
            if self._accounting:
                self._start_accounting()
            self.start_controller()
            for node in self.nodes:
                self._launch_node(node)
            self._wait_until_idle(self.nodes)
            undo.pop_all()

    def stop(self) -> None:
        """End everything that this cluster started, jobs and their orphans included, and remove its folder."""
        if self._layout is None:
            return
        slurm = [daemon for name, daemon in self._daemons.items() if name not in ("munged", "mariadbd")]
        for daemon in slurm:
            daemon.terminate()
        # A slurmd that ends by itself removes its control groups. One whose jobs live on does not count as ended,
        # so the wait is short. The database is not asked at all: its files are thrown away.
        deadline = time.monotonic() + 0.5
        for daemon in slurm:
            daemon.ends_within(max(0.0, deadline - time.monotonic()))
        for daemon in self._daemons.values():
            daemon.kill()
        self._daemons.clear()
        self._remove_control_groups()
        shutil.rmtree(self._layout.folder)
        self._layout = None

    def run(self, program: str, *words: str | Path, environment: Mapping[str, str] | None = None) -> str:
        """Run one of Slurm's commands against this cluster and return its stdout.

        `environment` is added to the caller's, from which ``SLURM_*`` and ``SBATCH_*`` of a surrounding job are
        taken out. Raises `ClusterError` with its stderr when it exits other than 0.
        """
        done = subprocess.run(
            [program, *map(str, words)],
            check=False,  # the error of `run` says more
            env=self._clean_environment() | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if done.returncode != 0:
            command = " ".join([program, *map(str, words)])
            raise ClusterError(f"{command}: exit code {done.returncode}\n{done.stderr.strip()}")
        return done.stdout

    def scontrol(self, *words: str) -> str:
        """Run scontrol and return its stdout."""
        return self.run("scontrol", *words)

    def squeue(self) -> dict[str, str]:
        """Return the state of every job that slurmctld remembers, ended ones included, as ``{"12_3": "RUNNING"}``."""
        lines = self.run("squeue", "--noheader", "--array", "--states=all", "--format=%i %T").splitlines()
        return dict(line.split(maxsplit=1) for line in lines)

    def cancel_all(self) -> None:
        """Cancel every job of the caller and return once none is left in the queue."""
        user = self._running_layout.user
        self.run("scancel", f"--user={user}")
        self._daemons["slurmctld"].wait_until(
            lambda: not self.run("squeue", "--noheader", f"--user={user}"), "all jobs are cancelled"
        )

    def start_controller(self) -> None:
        """Start slurmctld and return once it answers."""
        slurmctld = self._launch("slurmctld", "-D")
        slurmctld.wait_until(self._controller_answers, "it answers scontrol ping", _PATIENCE)

    def stop_controller(self, kill: bool = False) -> None:
        """End slurmctld, which saves its state first, or `kill` it as a crash does; jobs run on."""
        slurmctld = self._daemons.pop("slurmctld")
        if not kill:
            slurmctld.terminate()
            slurmctld.ends_within(30)
        slurmctld.kill()

    def start_node(self, name: str) -> None:
        """Start the slurmd of a node that was killed and return once it listens and the node is idle."""
        self._launch_node(name)
        self._wait_until_idle([name])

    def kill_node(self, name: str) -> None:
        """Kill a node's slurmd, its step daemons and all processes of its jobs at once, as a power cut does.

        Slurm notices when SlurmdTimeout (10 s) is over; to shorten that, set the node DOWN with `scontrol`.
        """
        self._daemons.pop(name).kill()

    @property
    def _running_layout(self) -> cluster_files.Layout:
        if self._layout is None:
            raise ClusterError("this private Slurm does not run: start it first")
        return self._layout

    def _make_layout(self) -> cluster_files.Layout:
        folder = self._make_folder()
        ports = free_ports(2 + len(self.nodes))
        return cluster_files.Layout(
            folder=folder,
            cluster=self.name,
            nodes=self.nodes,
            cpus=self._cpus,
            # Room for a job of the default 4G on each CPU.
            memory=self._cpus * 5_000,
            host=socket.gethostname().partition(".")[0],
            user=pwd.getpwuid(os.getuid()).pw_name,
            controller_port=ports[0],
            database_port=ports[1],
            node_ports=ports[2:],
            accounting=self._accounting,
            memory_limits=self._memory_limits,
        )

    def _make_folder(self) -> Path:
        folder = self._wanted_folder
        if folder is None:
            parent = tempfile.gettempdir()
            # A job's own TMPDIR may be long, and macOS-like ones are.
            folder = Path(tempfile.mkdtemp(prefix="reflow-", dir=parent if len(parent) < 40 else "/tmp"))
        else:
            folder.mkdir(mode=0o700, parents=True)
        if len(str(folder)) > _LONGEST_FOLDER:
            folder.rmdir()
            raise ClusterError(
                f"{folder} is too long for Slurm's unix sockets: "
                f"choose a folder of at most {_LONGEST_FOLDER} characters"
            )
        return folder

    def _write_files(self) -> None:
        layout = self._running_layout
        for name in ("etc", "run", "log", "state"):
            (layout.folder / name).mkdir()
        for daemon in ("slurmctld", *self.nodes):
            layout.state(daemon).mkdir()
        layout.slurm_conf.write_text(cluster_files.slurm_conf(layout, self._config_lines))
        # Named outright: slurmd dies where it finds no control groups mounted while it tries to tell which they are.
        version_1 = not self._memory_limits or Path("/sys/fs/cgroup/memory").exists()
        layout.cgroup_conf.write_text(cluster_files.cgroup_conf(layout, "cgroup/v1" if version_1 else "cgroup/v2"))
        if self._accounting:
            layout.slurmdbd_conf.write_text(cluster_files.slurmdbd_conf(layout))
            layout.slurmdbd_conf.chmod(0o600)

    def _start_authentication(self) -> None:
        layout = self._running_layout
        key = layout.folder / "etc" / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        munge_socket = layout.run("munge.sock")
        munged = self._launch(
            "munged",
            "--foreground",
            "--force",  # it dislikes that others may not enter the folder of its socket
            f"--key-file={key}",
            f"--socket={munge_socket}",
            f"--pid-file={layout.run('munged.pid')}",
            f"--log-file={layout.log('munged.munge')}",
            f"--seed-file={layout.state('munge.seed')}",
            "--num-threads=2",
        )
        munged.wait_until(munge_socket.exists, "its socket exists", _PATIENCE)

    def _start_accounting(self) -> None:
        layout = self._running_layout
        tables = layout.state("mariadb")
        scratch = layout.state("mariadb-scratch")
        scratch.mkdir()
        # Two that start at the same time give their temporary tables equal names, and /tmp is both's.
        own_scratch = {"TMPDIR": str(scratch)}
        owner = f"--user={layout.user}"
        self.run(
            "mariadb-install-db",
            "--no-defaults",
            owner,
            f"--datadir={tables}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
            environment=own_scratch,
        )
        database_socket = layout.run("mariadb.sock")
        mariadbd = self._launch(
            "mariadbd",
            "--no-defaults",
            owner,
            f"--datadir={tables}",
            f"--socket={database_socket}",
            f"--pid-file={layout.run('mariadbd.pid')}",
            "--skip-networking",
            "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=0",  # thrown away anyway
            environment=own_scratch,
        )
        mariadbd.wait_until(database_socket.exists, "its socket exists", _PATIENCE)
        slurmdbd = self._launch("slurmdbd", "-D", environment={"MYSQL_UNIX_PORT": str(database_socket)})
        slurmdbd.wait_until(lambda: listens(layout.database_port), "it listens", _PATIENCE)
        # slurmctld refuses to enforce limits for a cluster, and to take jobs from a user, that are not known.
        self.run("sacctmgr", "--immediate", "add", "cluster", self.name)
        self.run("sacctmgr", "--immediate", "add", "account", "test", f"cluster={self.name}")
        self.run("sacctmgr", "--immediate", "add", "user", layout.user, "account=test", "defaultaccount=test")

    def _launch_node(self, name: str) -> None:
        self._launch("slurmd", "-D", "-N", name, name=name)

    def _wait_until_idle(self, nodes: Sequence[str]) -> None:
        for node in nodes:
            self._daemons[node].wait_until(lambda: self._are_idle(nodes), "the nodes are idle", _PATIENCE)

    def _remove_control_groups(self) -> None:
        # slurmd leaves the outermost group of its node behind, and a killed one the inner ones too.
        for node in self.nodes:
            for group in Path("/sys/fs/cgroup").glob(f"*/slurm_{node}"):
                for folder, _, _ in os.walk(group, topdown=False):
                    os.rmdir(folder)  # the files in it are the kernel's and go with it

    def _are_idle(self, nodes: Sequence[str]) -> bool:
        if not all(listens(self._running_layout.port_of(node)) for node in nodes):
            return False  # slurmctld may not have noticed yet that a node was killed
        # Asked for all: for one node, slurmctld 22.05 answers with what was allocated when somebody last asked for all.
        lines = self.run("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines()
        states = dict(line.split() for line in lines)
        return all(states[node] == "idle" for node in nodes)

    def _controller_answers(self) -> bool:
        # A client that finds nobody listening tries again for 18 s; a socket tells at once.
        return listens(self._running_layout.controller_port) and "is UP" in self.scontrol("ping")

    def _launch(
        self, program: str, *words: str, name: str | None = None, environment: Mapping[str, str] | None = None
    ) -> Daemon:
        label = name or program
        daemon = Daemon(
            label,
            [program, *words],
            self._clean_environment() | dict(environment or {}),
            self._running_layout.log(f"{label}.log"),
        )
        self._daemons[label] = daemon
        return daemon

    def _clean_environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        return own | self.environment
