#!/bin/bash
# task prepare, wave 1 of run ada-20261124-5f3a
# submitted from /scratch/ada/first
#SBATCH --job-name=ada-20261124-5f3a.prepare.1
#SBATCH --output=reflow/r/logs/prepare/wave-0001.log
#SBATCH --open-mode=append
#SBATCH --export=ALL
#SBATCH --cpus-per-task=1
#SBATCH --time=00:30:00
#SBATCH --mem=4G
#SBATCH --no-requeue

# Whatever fails before the task ends the job and says so in its log. Failures inside sourced files do not count.
trap 'reflow_code=$?; if [ -z "${BASH_SOURCE[1]:-}" ]; then echo "reflow: the job ends before its task begins: exit code $reflow_code of: $BASH_COMMAND" >&2; exit "$reflow_code"; fi' ERR
cd -- /home/ada/project
trap - ERR

# The worker takes the place of this shell, so that the scheduler's signals reach it.
exec /opt/python/bin/python -m reflow.worker run /scratch/ada/first/reflow/r/waves/0001.wave "${SLURM_ARRAY_TASK_ID:-0}"
