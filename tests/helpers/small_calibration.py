"""A calibration that was fitted on nothing, where a test only needs one."""

from mriqa.scoring.certainty import Calibration, Familiar
from mriqa.scoring.picture_statistics import STATISTICS

_SIZE = len(STATISTICS)
SMALL_CALIBRATION = Calibration(
    readout="expected",
    floor=0.3,
    gain=1.5,
    prior=1.1,
    multiples={"0.5": 0.7, "0.8": 1.3, "0.95": 2.0},
    familiar=Familiar(STATISTICS, [0.0] * _SIZE, [1.0] * _SIZE, [[0.0] * _SIZE], [[9.0] * _SIZE], 0.4, 1.0),
    images=1250,
    contents=81,
    coverage={"0.8": {"covered": 0.8125, "width": 1.5}},
)
