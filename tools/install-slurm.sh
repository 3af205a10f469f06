#!/usr/bin/env bash
# Install what tests/cluster needs for a private real Slurm with accounting; no daemon of the system is started.
set -euo pipefail

exec "$(dirname "$0")/apt-install.sh" \
    slurmctld slurmd slurm-client munge slurmdbd mariadb-server-core mariadb-client-core
