"""All that a command of cosim loads. A server of forked processes imports it once for all of them.

Nothing of it is used here: no thread of torch may run before a fork.
"""

import gc
from contextlib import suppress
from importlib import import_module

from cosim.graph.code_identity import code_key

_MODULES = (
    *("peft", "pyarrow.parquet", "rich.progress", "scipy.optimize", "transformers.models.gpt2.modeling_gpt2"),
    *("cosim.cli.progress", "cosim.cli.studying", "cosim.runs", "cosim.studies.run_study"),
)
_OPTIONAL = ("distributed.cli.dask_scheduler", "distributed.cli.dask_worker")

gc.disable()  # nothing that is loaded becomes garbage
for _name in _MODULES:
    import_module(_name)
for _name in _OPTIONAL:
    with suppress(ImportError):
        import_module(_name)
code_key("cosim.runs")  # reads the code of every module
gc.freeze()
gc.enable()
