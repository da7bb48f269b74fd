"""Whether this machine can do the job, and what is missing: the logic of `yolotrt doctor`.

Reading order: `report` (the result), `diagnose` (the list of checks), one module per group of checks, `view` (how it is
shown). Every check is guarded: a package that is missing or broken is a row with its reason, never an exception. So
the modules of this package import nothing but the standard library until a check runs.
"""
