"""The comparisons of SOFT and TSFA, arXiv 2505.00333, on the embedded model.

The paper's own figures could not be seen; what is drawn are the orderings its
abstract claims, against the baselines of the method card, each measured.
"""
