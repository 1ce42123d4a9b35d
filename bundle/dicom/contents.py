"""What a series shows, told by its header and by nothing else: which of the four modalities, or why none of them."""

from __future__ import annotations

import re

from bundle.dicom.headers import Series

MODALITIES = ("t1n", "t1c", "t2w", "t2f")
REFERENCE = "t1c"  # whose grid and axes all files have
MIN_IMAGES = 10  # fewer are a localizer or a detail, not a head
# Milliseconds. T1 has a short echo; T2 and FLAIR have a long one, and FLAIR inverts and waits until fluid is dark.
SHORT_ECHO, LONG_ECHO, LONG_REPETITION = 30.0, 60.0, 2000.0
DARK_FLUID, T1_INVERSION, T1_REPETITION = 1500.0, (300.0, 1500.0), 1200.0
NO_WORD, NO_WORD_AFTER = r"(?<![a-z0-9])", r"(?![a-z0-9])"
OTHER = (
    rf"t2 ?\*|t2[ _-]?star|stir|{NO_WORD}(swi|swan|gre|dwi|dti|dsc|dce|asl|bold|tof|mra|mrv|pd|pdw|adc|fa|trace)"
    rf"{NO_WORD_AFTER}|diff|perf|venbold|fmri|map|subtr|{NO_WORD}(sub|mip|csi|svs){NO_WORD_AFTER}|spectro|ep2d"
)
FLUID_DARK = r"flair|tirm|dark[ _-]?fluid"
T1 = rf"{NO_WORD}t1|mprage|mp[ _-]rage|bravo|spgr|vibe"
T2 = rf"{NO_WORD}t2"
AGENT = r"([ck]ontrast\w*|gad\w*|gd|ce|km)"
BEFORE = r"pre(?![ _-]?op)|native?|wo|w/o|ohne|without|unenhanced|t1n"
WITHOUT = rf"{NO_WORD}({BEFORE}|vor|sans|senza|sin|non?)[ _-]?{AGENT}{NO_WORD_AFTER}|{NO_WORD}({BEFORE}){NO_WORD_AFTER}"
WITH = (
    rf"\+ ?c{NO_WORD_AFTER}|{NO_WORD}c ?\+|{NO_WORD}(t1)?(ce|c|gd|km)(w|t1)?{NO_WORD_AFTER}"
    r"|post(?!er|[ _-]?op)|gad|[ck]ontrast"
)
NO_AGENT = ("no", "none", "n", "0", "without", "nein")


def modality_of(series: Series) -> tuple[str | None, str]:
    """Tell which modality a series is.

    Words of the description decide, and the times of the sequence must agree with them; where words are silent, the
    times decide.

    Args:
        series: of MR images.

    Returns:
        (modality, "") or (None, why it is none of the four, or not told).
    """
    if reason := _not_a_head(series):
        return None, reason
    by_words, by_times = _weighting_by_words(series), _weighting_by_times(series)
    if by_words == "other":
        return None, "other contrast"
    if by_words and not _times_allow(series, by_words):
        return None, f"unclear: called {by_words.upper()}, with times of {(by_times or 'another').upper()}"
    weighting = by_words or by_times
    if weighting != "t1":
        return {"t2": "t2w", "flair": "t2f", None: None}[weighting], "" if weighting else "not told"
    contrast = contrast_of(series)
    if contrast is None:
        return None, "unclear: with contrast and without"
    return ("t1c" if contrast else "t1n"), ""


def contrast_of(series: Series) -> bool | None:
    """Tell whether an agent was given, by the header and the words; None where they contradict each other."""
    agent = str(series.value("ContrastBolusAgent") or "").strip().lower() not in ("", *NO_AGENT)
    others, is_without = re.subn(WITHOUT, " ", series.description.lower())
    is_with = agent or bool(re.search(WITH, others))
    return None if is_with and is_without else is_with


def is_localizer(series: Series) -> bool:
    """Tell whether a series was made to plan the others."""
    words = series.description.lower()
    return "LOCALIZER" in _image_type(series) or bool(re.search(r"locali[sz]er|scout|survey|plan_?loc", words))


def _not_a_head(series: Series) -> str:
    image_type = _image_type(series)
    if is_localizer(series):
        return "localizer"
    if image_type[:1] == ["DERIVED"] or {"MPR", "PROJECTION IMAGE", "SUBTRACTION"} & set(image_type):
        return "derived"
    if "EP" in str(series.value("ScanningSequence") or ""):
        return "echo-planar"
    return f"fewer than {MIN_IMAGES} images" if len(series.headers) < MIN_IMAGES else ""


def _image_type(series: Series) -> list[str]:
    value = series.value("ImageType")
    return [] if value is None else [str(word).upper() for word in ([value] if isinstance(value, str) else value)]


def _weighting_by_words(series: Series) -> str | None:
    words = series.description.lower()
    if re.search(OTHER, words):
        return "other"
    is_t1, is_t2, is_flair = (bool(re.search(pattern, words)) for pattern in (T1, T2, FLUID_DARK))
    if is_t1:  # T1 FLAIR is a T1
        return "other" if is_t2 else "t1"
    return "flair" if is_flair else "t2" if is_t2 else None


def _weighting_by_times(series: Series) -> str | None:
    echo, repetition, inversion = (series.number_of(f"{name}Time") for name in ("Echo", "Repetition", "Inversion"))
    if echo is None:
        return None
    if echo >= LONG_ECHO and (repetition or 0) >= LONG_REPETITION:
        return "flair" if (inversion or 0) >= DARK_FLUID else "t2"
    inverted = inversion is not None and T1_INVERSION[0] <= inversion <= T1_INVERSION[1]
    short = repetition is not None and repetition < T1_REPETITION
    return "t1" if echo < SHORT_ECHO and (inverted or short) else None


def _times_allow(series: Series, weighting: str) -> bool:
    """Whether the times that are told can be those of a weighting; not every header has all of them."""
    echo, inversion = series.number_of("EchoTime"), series.number_of("InversionTime")
    if echo is not None and (echo >= LONG_ECHO if weighting == "t1" else echo < SHORT_ECHO):
        return False
    if inversion is None:
        return True
    return {"t1": inversion < DARK_FLUID, "t2": inversion < DARK_FLUID, "flair": inversion >= DARK_FLUID}[weighting]
