"""What is learned: real training of split models, as operations whose values are stored by key.

MKL is asked for products that do not depend on where in memory a matrix begins.
On processors with AVX2 they otherwise do, and a client's value would depend on
its place in a batched call. MKL reads this when it is first used.
"""

import os

os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
