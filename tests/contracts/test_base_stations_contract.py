from cosim.radio.base_stations import BaseStations
from cosim.testing import contract

globals().update(contract(BaseStations))
