"""The configuration file that a new user finds: every key explained, none set."""

from __future__ import annotations

EXAMPLE = """\
# reflow's configuration. Every key is optional. A line without its leading '#' sets what it shows.
# What the command line or a task's decorator says wins over this file, and so does the variable in brackets.

[executor]
# How jobs are submitted: sbatch, local, dry-run (show scripts only), or auto (sbatch where it is found, else local).
# qsub-pbs, bsub, qsub-sge and flux are kept for schedulers to come. [REFLOW_MODE]
#mode = "auto"
# The Python that runs the tasks; without it, the one that submits. [REFLOW_PYTHON]
#python = "/path/to/environment/bin/python"
# At most this many array slots of one run queued or running at the same time. [REFLOW_MAX_SUBMIT_JOBS]
#max_submit_jobs = 1000
# Slurm's commands, with arguments if they need some.
# [REFLOW_SBATCH, REFLOW_SQUEUE, REFLOW_SACCT, REFLOW_SCANCEL, REFLOW_SCONTROL]
#sbatch = "sbatch"
#squeue = "squeue"
#sacct = "sacct"
#scancel = "scancel"
#scontrol = "scontrol"
# Shell lines before every task; a failing one ends the job. [REFLOW_SETUP, one line each]
#setup = ["module load gcc"]
# Which variables of the submitting shell jobs get: "ALL", "NONE", or a list of names. [REFLOW_EXPORT, with commas]
#export = "ALL"
# Folder with templates of your own, such as slurm.sh.j2. [REFLOW_TEMPLATE_DIR]
#template_dir = "~/.config/reflow/templates"

# Any option of sbatch by its long name.
# [REFLOW_PARTITION, REFLOW_ACCOUNT, REFLOW_SUBMIT_OPTIONS="qos=high exclusive"]
[executor.submit_options]
#partition = "compute"
#account = "my-project"

# Variables of every task. [REFLOW_ENVIRONMENT="A=1 B='two words'"]
[executor.environment]
#OMP_NUM_THREADS = "1"

[dispatch]
# Who submits the next tasks: worker (the job that ends a stage) or job (a small job of its own, for sites where
# compute nodes may not submit). [REFLOW_DISPATCH_MODE]
#mode = "worker"
# What that small job asks for.
# [REFLOW_DISPATCH_CPUS, REFLOW_DISPATCH_TIME, REFLOW_DISPATCH_MEM, REFLOW_DISPATCH_PARTITION, REFLOW_DISPATCH_ACCOUNT]
#cpus = 1
#time = "00:30:00"
#mem = "1G"
#partition = "compute"
#account = "my-project"

[notifications]

[defaults]
# The run directory where --run-dir is not given. [REFLOW_RUN_DIR]
#run_dir = "runs"
# The manifest that all runs share. [REFLOW_STORE_PATH]
#store_path = "~/reflow/manifest.db"
# Whether to use files that decide what runs (pipelines, a shared manifest, templates) although other members of their
# group may change them. [REFLOW_TRUST_GROUP]
#trust_group = true
# How files count when it is decided whether a result is used again: "size+mtime", or "content", which reads them.
# [REFLOW_PATH_FINGERPRINT]
#path_fingerprint = "size+mtime"
"""
