"""The large-scale calibration of 3GPP TR 38.901, played with cosim's own channel."""
