"""The configuration files of a private Slurm, as text. Pure: nothing is read or written here.

Every option that is not about folders, names and ports is here because a test cluster on one host needs it;
the reason stands beside it in the file that is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """Who and where: what the files of one private cluster have in common."""

    folder: Path
    #: Unique on this host: names of control groups are global, and two clusters with equal node names kill each
    #: other's jobs.
    cluster: str
    nodes: tuple[str, ...]
    cpus: int
    #: Memory of one node in MB, of which nothing is checked or reserved.
    memory: int
    #: The host's short name, as `hostname -s` prints it.
    host: str
    user: str
    controller_port: int
    database_port: int
    node_ports: range
    accounting: bool
    memory_limits: bool

    def run(self, name: str) -> Path:
        """A socket or pid file."""
        return self.folder / "run" / name

    def log(self, name: str) -> Path:
        """A daemon's log."""
        return self.folder / "log" / name

    def state(self, name: str) -> Path:
        """A daemon's folder for what it keeps."""
        return self.folder / "state" / name

    def port_of(self, node: str) -> int:
        """The port on which a node's slurmd listens."""
        return self.node_ports[self.nodes.index(node)]

    @property
    def slurm_conf(self) -> Path:
        """The file that SLURM_CONF names."""
        return self.folder / "etc" / "slurm.conf"

    @property
    def slurmdbd_conf(self) -> Path:
        """The accounting daemon's file; Slurm looks for it beside slurm.conf."""
        return self.folder / "etc" / "slurmdbd.conf"

    @property
    def cgroup_conf(self) -> Path:
        """The file about control groups; Slurm looks for it beside slurm.conf."""
        return self.folder / "etc" / "cgroup.conf"


def slurm_conf(layout: Layout, config_lines: tuple[str, ...]) -> str:
    """Return the text of slurm.conf; of an option that is given twice Slurm takes the last, so `config_lines` win."""
    return "\n".join([*_controller_lines(layout), *_node_lines(layout), *config_lines, ""])


def _controller_lines(layout: Layout) -> list[str]:
    tracking = "cgroup" if layout.memory_limits else "linuxproc"
    lines = [
        f"ClusterName={layout.cluster}",
        f"SlurmctldHost={layout.host}(127.0.0.1)",
        f"SlurmUser={layout.user}",
        f"SlurmdUser={layout.user}",
        f"SlurmctldPort={layout.controller_port}",
        "# Listen on loopback only.",
        "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny",
        "AuthType=auth/munge",
        "# A requeued job waits until its credential has expired: by default 120 s.",
        f"AuthInfo=socket={layout.run('munge.sock')},cred_expire=10",
        f"StateSaveLocation={layout.state('slurmctld')}",
        f"SlurmdSpoolDir={layout.state('%n')}",
        f"SlurmctldPidFile={layout.run('slurmctld.pid')}",
        f"SlurmdPidFile={layout.run('%n.pid')}",
        f"SlurmctldLogFile={layout.log('slurmctld.slurm')}",
        f"SlurmdLogFile={layout.log('%n.slurm')}",
        "MpiDefault=none",
        "SwitchType=switch/none",
        f"ProctrackType=proctrack/{tracking}",
        f"TaskPlugin=task/{'cgroup' if layout.memory_limits else 'none'}",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        "DefMemPerCPU=100",
        "# The default of 4G a job, which real nodes have, must fit nodes that are not real.",
        "SlurmdParameters=config_overrides",
        "ReturnToService=2",
        "# Quick tests: the defaults are made for clusters that must not be bothered.",
        "SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0",
        "KillWait=3",
        "SlurmdTimeout=10",
    ]
    if layout.accounting:
        lines += [
            "JobAcctGatherType=jobacct_gather/linux",
            "AccountingStorageType=accounting_storage/slurmdbd",
            "AccountingStorageHost=127.0.0.1",
            f"AccountingStoragePort={layout.database_port}",
            "# Not a password: the munge socket for what goes to slurmdbd, which AuthInfo does not cover.",
            f"AccountingStoragePass={layout.run('munge.sock')}",
        ]
    return lines


def _node_lines(layout: Layout) -> list[str]:
    lines = [
        f"NodeName={name} NodeHostname={layout.host} NodeAddr=127.0.0.1 Port={port} "
        f"CPUs={layout.cpus} RealMemory={layout.memory} State=UNKNOWN"
        for name, port in zip(layout.nodes, layout.node_ports, strict=True)
    ]
    return [*lines, "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP"]


def cgroup_conf(layout: Layout, plugin: str) -> str:
    """Return the text of cgroup.conf for `plugin` (``cgroup/v1`` or ``cgroup/v2``)."""
    limits = "yes" if layout.memory_limits else "no"
    return "\n".join(
        [
            f"CgroupPlugin={plugin}",
            f"ConstrainRAMSpace={limits}",
            f"ConstrainSwapSpace={limits}",
            "AllowedSwapSpace=0",
            "",
        ]
    )


def slurmdbd_conf(layout: Layout) -> str:
    """Return the text of slurmdbd.conf; its file must be readable by its owner only, or slurmdbd refuses it."""
    return "\n".join(
        [
            f"DbdHost={layout.host}",
            "DbdAddr=127.0.0.1",
            f"DbdPort={layout.database_port}",
            f"SlurmUser={layout.user}",
            "AuthType=auth/munge",
            f"AuthInfo=socket={layout.run('munge.sock')}",
            f"PidFile={layout.run('slurmdbd.pid')}",
            f"LogFile={layout.log('slurmdbd.slurm')}",
            "StorageType=accounting_storage/mysql",
            "StorageHost=localhost",
            "StorageLoc=slurm_acct_db",
            "StorageUser=root",
            "CommunicationParameters=NoInAddrAny",
            "",
        ]
    )
