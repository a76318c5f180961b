"""TID2013: 25 pictures, 24 distortions at 5 levels (Ponomarenko et al., Signal Processing: Image Communication 2015).

Its names mix cases: 75 of the list begin with "I", 2,925 with "i", and some files end in ".BMP".
"""

from __future__ import annotations

import re

from mriqa.datasets.data_set import DataSet, DataSetError, Entry, Labels, Reading, number
from mriqa.datasets.folder import Folder
from mriqa.datasets.label_files import read_fields

SCORES, DEVIATIONS = "mos_with_names.txt", "mos_std.txt"
NAME = re.compile(r"(i\d+)_(\d+)_(\d)\.bmp", re.IGNORECASE)
DISTORTIONS = (
    "additive_gaussian_noise",
    "color_component_noise",
    "spatially_correlated_noise",
    "masked_noise",
    "high_frequency_noise",
    "impulse_noise",
    "quantization_noise",
    "gaussian_blur",
    "denoising",
    "jpeg",
    "jpeg2000",
    "jpeg_transmission_errors",
    "jpeg2000_transmission_errors",
    "non_eccentricity_pattern_noise",
    "local_block_distortions",
    "mean_shift",
    "contrast_change",
    "color_saturation",
    "multiplicative_gaussian_noise",
    "comfort_noise",
    "lossy_compression_of_noisy_images",
    "color_quantization_with_dither",
    "chromatic_aberrations",
    "sparse_sampling",
)


def read(folder: Folder, labels: str) -> Reading:
    """Entries of TID2013."""
    chosen = DATA_SET.chosen_labels(labels, {"mos": SCORES})
    rows = read_fields(folder.label_file(SCORES), 2)
    deviation_file = folder.optional_label_file(DEVIATIONS)
    deviations = [fields[0] for fields in read_fields(deviation_file, 1)] if deviation_file else [None] * len(rows)
    if len(deviations) != len(rows):
        raise DataSetError(
            f"{DEVIATIONS} has {len(deviations)} lines and {SCORES} {len(rows)}: they are of different versions."
        )
    pictures = folder.directory("distorted_images")
    references = folder.directory("reference_images", "")
    entries = []
    for (score, name), deviation in zip(rows, deviations, strict=True):
        match = NAME.fullmatch(name)
        if not match or not 1 <= int(match[2]) <= len(DISTORTIONS):
            raise DataSetError(f"{SCORES} names a picture {name!r}, which is none of TID2013's; download it again.")
        entries.append(
            Entry(
                name,
                pictures.file(name),
                mos=number(score, f"the MOS of {name}"),
                std=None if deviation is None else number(deviation, f"the deviation of {name}"),
                content=match[1].upper(),
                reference=references.file(f"{match[1]}.bmp"),
                distortion=DISTORTIONS[int(match[2]) - 1],
                level=int(match[3]),
            )
        )
    return Reading(entries, chosen, SCORES)


DATA_SET = DataSet(
    name="tid2013",
    title="TID2013",
    rows=3_000,
    read=read,
    labels={"mos": Labels("tid2013", (0.24242, 7.21429))},
    ratios=(18, 2, 5),
    licence="see the page",
    home="http://www.ponomarenko.info/tid2013.htm",
    layout=f"reference_images/I01.BMP …, distorted_images/i01_01_1.bmp …, {SCORES}, {DEVIATIONS}",
)
