"""Golden tables: small runs over all families must keep giving what they gave when the tables were written.

``scenarios/`` has one file per run. ``tables/`` has the results: ``NAME.spans.csv`` is the timeline and
``NAME.metrics.csv`` holds losses and other measured values. Rows are compared in an order of their own, with
the names of ``names.py`` and the tolerances of ``tables.py``. Fingerprints, row order and ids play no part.

    python -m tests.golden                     # show where today's runs differ from the tables
    python -m tests.golden NAME ...            # the same for some of them
    python -m tests.golden --renew NAME ...    # write these tables again

Renew a table on purpose only, in a commit that says why its numbers must change. A new name in place of an
old one needs no renewal: change ``names.py``. New scenarios get their first tables in the same way.
"""
