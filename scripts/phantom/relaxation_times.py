"""Published T1, T2 and proton density of brain and glioma at two field strengths."""

from __future__ import annotations

from typing import NamedTuple


class Tissue(NamedTuple):
    """Relaxation times in ms and proton density relative to water."""

    t1_ms: float
    t2_ms: float
    proton_density: float


class ContrastAgent(NamedTuple):
    """Relaxivities of a gadolinium agent in plasma at 37 degrees Celsius, l / (mmol s)."""

    r1: float
    r2: float


# White and gray matter at 1.5 T: the values of the BrainWeb phantom, Kwan, Evans, Pike 1999, IEEE Trans Med Imaging
# 18:1085. At 3 T: Wansapura et al. 1999, J Magn Reson Imaging 9:531. Deep gray matter: within the ranges for caudate,
# putamen and thalamus at 3 T in Bojorquez et al. 2017, Magn Reson Imaging 35:69; shortened for 1.5 T as cortex is.
# CSF: T1 4.3 s at every field strength, Rooney et al. 2007, Magn Reson Med 57:308; T2 about 2 s. Blood: T1 of Stanisz
# et al. 2005, Magn Reson Med 54:507; T2 rounded for venous oxygenation, Lu et al. 2012, Magn Reson Med 67:42.
# Proton density: BrainWeb (1.5 T); Tofts 2003, "Quantitative MRI of the Brain", chapter 4 (3 T).
# Tumor: rounded within the ranges of Badve et al. 2017, AJNR 38:492 (3 T: solid tumor and perilesional white matter of
# low-grade glioma and glioblastoma) and Just and Thelen 1988, Radiology 169:779 (1.5 T); necrosis lies towards water.
RELAXATION: dict[float, dict[str, Tissue]] = {
    1.5: {
        "wm": Tissue(500, 70, 0.77),
        "gm": Tissue(833, 83, 0.86),
        "deep_gm": Tissue(720, 76, 0.83),
        "csf": Tissue(4300, 2000, 1.00),
        "blood": Tissue(1441, 130, 0.85),
        "edema": Tissue(1050, 130, 0.86),
        "solid": Tissue(1500, 150, 0.88),
        "enhancing": Tissue(1250, 125, 0.88),
        "necrosis": Tissue(2200, 240, 0.94),
    },
    3.0: {
        "wm": Tissue(832, 80, 0.70),
        "gm": Tissue(1331, 110, 0.81),
        "deep_gm": Tissue(1200, 85, 0.78),
        "csf": Tissue(4300, 1900, 1.00),
        "blood": Tissue(1932, 60, 0.85),
        "edema": Tissue(1450, 135, 0.82),
        "solid": Tissue(2000, 150, 0.86),
        "enhancing": Tissue(1550, 120, 0.84),
        "necrosis": Tissue(2600, 220, 0.93),
    },
}

# Gadobutrol in human plasma: r1 from Szomolanyi et al. 2019, Invest Radiol 54:559; r2 from Rohrer et al. 2005,
# Invest Radiol 40:715.
GADOBUTROL: dict[float, ContrastAgent] = {1.5: ContrastAgent(4.78, 6.1), 3.0: ContrastAgent(4.97, 7.1)}


def relaxation_at(field_strength_tesla: float) -> tuple[dict[str, Tissue], ContrastAgent]:
    """Tissue table and contrast agent at a field strength.

    Args:
        field_strength_tesla: 1.5 or 3.0.

    Returns:
        Tissue name -> relaxation times, and the relaxivities of the agent.

    Raises:
        ValueError: if nothing is tabulated at that field strength.
    """
    if field_strength_tesla not in RELAXATION:
        raise ValueError(
            f"field_strength_tesla must be one of {sorted(RELAXATION)}, got {field_strength_tesla!r};"
            " add its published values to scripts/phantom/relaxation_times.py"
        )
    return RELAXATION[field_strength_tesla], GADOBUTROL[field_strength_tesla]
