"""A Slurm that needs no Slurm: its commands as executables, a state folder, and real processes.

`control.FakeSlurm` is what tests hold; the commands import only the rest, which must stay quick to import.
"""
