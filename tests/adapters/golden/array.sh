#!/bin/bash
# task fit, wave 2 of run ada-20261124-5f3a
# submitted from /scratch/ada/first
#SBATCH --job-name=ada-20261124-5f3a.fit.2
#SBATCH --output=reflow/r/logs/fit/wave-0002.log
#SBATCH --open-mode=append
#SBATCH --array=0-3,7%2
#SBATCH --dependency=aftercorr:17,afterany:18
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --export=HOME,PATH
#SBATCH --cpus-per-task=8
#SBATCH --time=1-00:00:00
#SBATCH --mem=64G
#SBATCH --account=physics
#SBATCH --partition=gpu
#SBATCH --gres=gpu:1
#SBATCH --exclusive
#SBATCH --comment="say \"hi\" #1"
#SBATCH --no-requeue

# Whatever fails before the task ends the job and says so in its log. Failures inside sourced files do not count.
trap 'reflow_code=$?; if [ -z "${BASH_SOURCE[1]:-}" ]; then echo "reflow: the job ends before its task begins: exit code $reflow_code of: $BASH_COMMAND" >&2; exit "$reflow_code"; fi' ERR
cd -- /home/ada/project
module purge
module load cuda
source venv/bin/activate
trap - ERR

export OMP_NUM_THREADS=8
export TITLE='it'"'"'s 5 $'

# The worker takes the place of this shell, so that the scheduler's signals reach it.
exec /opt/python/bin/python -m reflow.worker run /scratch/ada/first/reflow/r/waves/0001.wave "${SLURM_ARRAY_TASK_ID:-0}"
