"""The verdict of the audit: what the figures say about memorization, in words, at stated thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scipy.stats import binomtest

from scripts.memorization.duplicates import Duplicate, SharedPart
from scripts.memorization.statistics import Share
from scripts.running.errors import some_names
from scripts.statistics.intervals import wilson

KNOWS_HELD_OUT = "knows the held-out subjects"
MEMORIZES = "memorizes"
UNUSABLE = "unusable"
COLLAPSED = "collapsed"
TOO_FEW = "too few images to tell"
NO_SIGN = "no sign of memorization"
VERDICTS = (KNOWS_HELD_OUT, MEMORIZES, UNUSABLE, COLLAPSED, TOO_FEW, NO_SIGN)  # the gravest first
DATA_COPYING = -3.0  # C_T; three standard deviations (Meehan et al. 2020)
MIN_REAL = 8  # real subjects, below which "farther than nearly every real image" says nothing
SIMPLE = 0.65  # lowest ratio of a real image, below which images are as simple as digits; simulated patients reach it
NEAR_BY_CHANCE = 0.05  # share of simple images; more that come near to held-out subjects are no chance
BELOW_REAL = 0.75  # of the lowest ratio of a real image, below which no honest image is expected
MIN_CLIQUE = 3  # images of one picture that are worth a sentence; two may be alike by chance
HALF = 0.5  # of the images, from which a set is called what most of its images are


@dataclass(frozen=True)
class Thresholds:
    """Where the audit draws its lines; fixed by `python -m benchmarks.audit_thresholds`, on seeds of no test.

    Args:
        copy_ratio: an image is a copy whose d1 / d2 is below this.
        part_copy_ratio: the same of a channel, the lesion, a quarter: small parts of different patients are more alike.
        p_value: a share of images nearest to training subjects counts where exchanged subjects reach it with at most
            this probability, of all parts of the image but the whole together ...
        min_relative_share: ... and it is at least this part of the way from chance to 1. A Gaussian fitted to the
            patients, which copies nobody, stays below.
        usable_similarity: a set is unusable where more than half of the images are less similar to their nearest real
            subject than this times what 9 of 10 real subjects reach ...
        usable_effect: ... or where an image is farther from its nearest subject than a real one, or nearer to the
            average of all, with more than this probability.
        min_images: synthetic images, without which "no sign" would say little: none among 29 leaves room for 1 in 10.
        min_training: subjects; the ratio needs two, and among few everything is far from the second.
        min_held_out: subjects of the baselines.
    """

    copy_ratio: float = 0.5
    part_copy_ratio: float = 0.3
    p_value: float = 0.01
    min_relative_share: float = 0.8
    usable_similarity: float = 0.5
    usable_effect: float = 0.95
    min_images: int = 29
    min_training: int = 5
    min_held_out: int = 5

    def __post_init__(self) -> None:
        for name in ("copy_ratio", "part_copy_ratio", "p_value", "min_relative_share", "usable_similarity"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise ValueError(f"audit_{name} must be in (0, 1), got {value!r}")
        if not 0.5 < self.usable_effect < 1:
            raise ValueError(f"audit_usable_effect must be in (0.5, 1), got {self.usable_effect!r}")
        for name in ("min_images", "min_training", "min_held_out"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"audit_{name} must be >= 1, got {value!r}")

    def where_real_images_reach(self, lowest_ratio: float) -> Thresholds:
        """Lower the ratios of copies where different real subjects come as near to each other as copies do.

        Args:
            lowest_ratio: d1 / d2 of real images among other subjects, the lowest; .65 and more of simulated patients,
                less of simple images such as handwritten digits.
        """
        factor = min(1.0, max(BELOW_REAL * lowest_ratio / self.copy_ratio, 1e-6))
        return replace(self, copy_ratio=factor * self.copy_ratio, part_copy_ratio=factor * self.part_copy_ratio)

    def of_part(self, lowest_ratio: float) -> float:
        """Return the ratio of a copy of one part of images, in which real ones reach `lowest_ratio` among others.

        Real images of subjects who share the part do not count, see `scripts.memorization.duplicates.is_shared`.
        """
        return min(self.part_copy_ratio, max(BELOW_REAL * lowest_ratio, 1e-6))


@dataclass(frozen=True)
class Figures:
    """What the verdict of one class is drawn from.

    Args:
        num_synthetic: images.
        num_training_subjects: behind the generator, duplicates counted once.
        num_held_out_subjects: likewise, without those who are training subjects under another name.
        copies: part of the images ("whole image", "lesion", ...) -> number that copy a training subject in it.
        num_copies: images that copy a training subject in any part.
        held_out_copies: images that copy a held-out subject in any part.
        held_out_whole: of them, those that copy it as a whole.
        are_simple: whether different real subjects come nearly as near to each other as copies do, as digits do: the
            lowest ratio of a real image is below `SIMPLE`.
        duplicates: real subjects under two names.
        shared_parts: real subjects who share a part of their images.
        part_limits: part -> ratio below which an image is a copy in it, lowered where real images come as near.
        shares: part -> share of images nearest to training subjects; empty without held-out subjects.
        c_t: of the whole images; None where it cannot be told.
        auth_pct: AuthPct of the synthetic images.
        held_out_auth_pct: AuthPct of held-out images.
        unlike_share: share of images that resemble no real subject.
        farther: probability that an image is farther from its nearest subject than a real one.
        average: probability that an image is nearer to the average of all than a real one.
        smoother: probability that an image has less detail than a real one.
        repeated: share of images that repeat an earlier one.
        clique: number of the images that are drawn most often alike.
        clique_copies: how many of them copy a training subject.
    """

    num_synthetic: int
    num_training_subjects: int
    num_held_out_subjects: int
    copies: Mapping[str, int]
    num_copies: int
    held_out_copies: int = 0
    held_out_whole: int = 0
    are_simple: bool = False
    duplicates: Sequence[Duplicate] = ()
    shared_parts: Sequence[SharedPart] = ()
    part_limits: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, Share] | None = None
    c_t: float | None = None
    auth_pct: float | None = None
    held_out_auth_pct: float | None = None
    unlike_share: float = 0.0
    farther: float = 0.5
    average: float = 0.5
    smoother: float = 0.5
    repeated: float = 0.0
    clique: int = 0
    clique_copies: int = 0


def judge(figures: Figures, thresholds: Thresholds) -> dict[str, Any]:
    """Say what the figures of one class mean.

    Copies come first: they are a fact about single patients. Then the share of images nearest to training subjects.
    Then whether the images are images at all, since noise copies nobody, and whether they are more than one. Then
    whether there was enough to see anything.

    Returns:
        `verdict`, one of `VERDICTS`, and `evidence`, sentences, the gravest first.
    """
    copied = _copied_parts(figures, thresholds)
    known = _known_held_out(figures, thresholds)
    unusable = _why_unusable(figures, thresholds)
    missing = _missing(figures, thresholds)
    if known:
        verdict = KNOWS_HELD_OUT
    elif figures.num_copies or copied:
        verdict = MEMORIZES
    elif unusable:
        verdict = UNUSABLE
    elif figures.repeated > HALF:
        verdict = COLLAPSED
    elif missing:
        verdict = TOO_FEW
    else:
        verdict = NO_SIGN
    evidence = [
        *map(_about_duplicate, figures.duplicates),
        *known,
        _about_copies(figures, thresholds),
        *_about_chance(figures, thresholds),
        *_about_shared_parts(figures),
        *_about_shares(figures, thresholds, copied),
        *_about_usability(figures, thresholds, unusable),
        *_about_clique(figures),
        *missing,
    ]
    return {"verdict": verdict, "evidence": evidence}


def copy_share(copies: int, total: int) -> dict[str, float | None]:
    """Share of copies with its 95 % Wilson limits."""
    estimate = wilson(copies, total)
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _copied_parts(figures: Figures, thresholds: Thresholds) -> list[str]:
    """Parts by which the set as a whole is nearer to training subjects than chance allows."""
    shares = figures.shares or {}
    whole = next(iter(shares), None)
    # Many parts are looked at: Bonferroni's correction for all but the whole image.
    of_part = thresholds.p_value / max(len(shares) - 1, 1)
    parts = [
        name
        for name, share in shares.items()
        if share.p_value <= (thresholds.p_value if name == whole else of_part)
        and share.relative >= thresholds.min_relative_share
    ]
    if whole and whole not in parts and _is_data_copying(figures) and shares[whole].p_value <= thresholds.p_value:
        parts.insert(0, whole)
    return parts


def _is_data_copying(figures: Figures) -> bool:
    if figures.c_t is None or figures.auth_pct is None or figures.held_out_auth_pct is None:
        return False
    return figures.c_t < DATA_COPYING and figures.auth_pct < figures.held_out_auth_pct / 2


def _known_held_out(figures: Figures, thresholds: Thresholds) -> list[str]:
    sentences = []
    # One small part of one image may be alike by chance; this verdict stops a study.
    is_told = figures.held_out_whole > 0 or figures.held_out_copies > 1
    if is_told and not _may_be_chance(figures, thresholds):
        number = figures.held_out_copies
        sentences.append(
            f"{number} of {figures.num_synthetic} images {'is a copy' if number == 1 else 'are copies'} of held-out"
            " subjects, whom the generator must not know: its provenance or the splits are wrong."
        )
    whole = next(iter((figures.shares or {}).values()), None)
    if (
        whole is not None
        and whole.held_out_p_value <= thresholds.p_value
        and whole.held_out_relative >= thresholds.min_relative_share
    ):
        sentences.append(
            f"{100 * (1 - whole.value):.0f} % of the images are nearest to a held-out subject, by chance"
            f" {100 * (1 - whole.chance):.0f} % (p {whole.held_out_p_value:.3f}): the generator's provenance or the"
            " splits are wrong."
        )
    return sentences


def _may_be_chance(figures: Figures, thresholds: Thresholds) -> bool:
    """Whether simple images come near to held-out subjects no more often than to all, and few of them do."""
    is_rare = figures.held_out_copies <= NEAR_BY_CHANCE * figures.num_synthetic
    return figures.are_simple and is_rare and _by_chance(figures) > thresholds.p_value


def _by_chance(figures: Figures) -> float:
    """Probability that so many of the copies are of held-out subjects, if each is of any subject alike (binomial)."""
    num_subjects = figures.num_training_subjects + figures.num_held_out_subjects
    copies = figures.held_out_copies + figures.num_copies
    share = figures.num_held_out_subjects / max(num_subjects, 1)
    return float(binomtest(figures.held_out_copies, copies, share, alternative="greater").pvalue)


def _why_unusable(figures: Figures, thresholds: Thresholds) -> list[str]:
    effect = thresholds.usable_effect
    reasons = []
    if figures.unlike_share > HALF:
        reasons.append("more than half of them resemble nobody")
    if figures.num_training_subjects + figures.num_held_out_subjects < MIN_REAL:
        return reasons
    is_one = figures.repeated > HALF
    if figures.average > effect and (not is_one or figures.smoother > effect):
        reasons.append("they are the average of subjects, and no subject")
    # Sixty times one real image may lie apart by chance: where one image is repeated, that is what is said.
    if not is_one and figures.farther > effect:
        reasons.append("nearly all are farther from everybody than real images are")
    elif not is_one and figures.average < 1 - effect and figures.farther > 0.8:
        reasons.append("they have nothing of what all subjects share")
    return reasons


def _missing(figures: Figures, thresholds: Thresholds) -> list[str]:
    names = {
        "num_synthetic": ("synthetic images", thresholds.min_images, "generate more"),
        "num_training_subjects": ("training subjects", thresholds.min_training, "train on more"),
        "num_held_out_subjects": ("held-out subjects", thresholds.min_held_out, "hold out more"),
    }
    if not figures.num_held_out_subjects:
        names["num_held_out_subjects"] = (
            "held-out subjects",
            thresholds.min_held_out,
            "give real images of subjects that the generator did not see",
        )
    return [
        f"{getattr(figures, key)} {name}, of which the audit needs {needed}; {way_out}."
        for key, (name, needed, way_out) in names.items()
        if getattr(figures, key) < needed
    ]


def _about_duplicate(duplicate: Duplicate) -> str:
    similarity = f"(similarity {duplicate.similarity:.3f})"
    if duplicate.part == "held out":
        return (
            f"{duplicate.second} (held out) is the training subject {duplicate.first} under another name {similarity},"
            " left out of the held-out subjects."
        )
    kind = "training" if duplicate.part == "training" else "held-out"
    return (
        f"{duplicate.first} and {duplicate.second} are one {kind} subject under two names {similarity}, counted once."
    )


def _about_copies(figures: Figures, thresholds: Thresholds) -> str:
    copies, total = figures.num_copies, figures.num_synthetic
    share = wilson(copies, total)
    low, high = (100 * limit for limit in (share.low, share.high) if limit is not None)
    by_part = ", ".join(f"{name} {number}" for name, number in figures.copies.items() if number)
    parts, undone, limits = "", "rotations and scales", " Parts were not looked at: the images are too small."
    if len(figures.copies) > 1:
        parts = f", or, of a part of the image, {thresholds.part_copy_ratio:.2g} times{_lowered(figures, thresholds)}"
        undone, limits = "rotations, scales and bends", ""
    return (
        f"{copies} of {total} images {'is a copy' if copies == 1 else 'are copies'}"
        + (f" ({by_part})" if by_part else "")
        + f": less than {thresholds.copy_ratio:.2g} times as far from one training subject as from the next{parts};"
        f" turns, shifts, {undone} undone (95 % of the share: {low:.1f} to {high:.1f} %).{limits}"
    )


def _lowered(figures: Figures, thresholds: Thresholds) -> str:
    """The limits of the parts in which real images come so near to one another that less counts as a copy."""
    lower = [f"{name} {limit:.2g}" for name, limit in figures.part_limits.items() if limit < thresholds.part_copy_ratio]
    return f" ({', '.join(lower)}, where real images come near, too)" if lower else ""


def _about_chance(figures: Figures, thresholds: Thresholds) -> list[str]:
    """The sentence on images near to held-out subjects that are taken for chance."""
    if not figures.held_out_copies or not _may_be_chance(figures, thresholds):
        return []
    return [
        f"{figures.held_out_copies} of {figures.num_synthetic} come as near to held-out subjects, as some of such"
        f" simple images do by chance (p {_by_chance(figures):.2f}); a generator that saw both alike would not be told"
        " by them."
    ]


def _about_shared_parts(figures: Figures) -> list[str]:
    """One sentence for each part that real subjects share: copies of them are as near to both, and so are missed."""
    pairs: dict[str, list[str]] = {}
    for one in figures.shared_parts:
        pairs.setdefault(one.part, []).append(f"{one.first} and {one.second} (d1 / d2 {one.ratio:.2g})")
    return [
        f"Real subjects share {part}: {some_names(names, separator='; ')}. They lower no limit; whether an image is a"
        " copy of theirs in it cannot be told."
        for part, names in pairs.items()
    ]


def _about_shares(figures: Figures, thresholds: Thresholds, copied: Sequence[str]) -> list[str]:
    if not figures.shares:
        return []
    name, whole = next(iter(figures.shares.items()))
    sentences = [
        f"{100 * whole.value:.0f} % of the images are nearest to a training subject, by chance"
        f" {100 * whole.chance:.0f} % (p {whole.p_value:.3f}); it counts from"
        f" {100 * (whole.chance + thresholds.min_relative_share * (1 - whole.chance)):.0f} % at p"
        f" {thresholds.p_value:g}"
        + (
            "."
            if figures.c_t is None
            else f", or, at this p, where C_T is below {DATA_COPYING:g} and AuthPct below half of that of held-out"
            f" images; C_T is {figures.c_t:.1f}"
        )
        + _about_authenticity(figures)
    ]
    others = [part for part in copied if part != name]
    if others:
        said = ", ".join(f"{part} {100 * figures.shares[part].value:.0f} %" for part in others)
        sentences.append(f"Parts nearest to those of training subjects: {said}.")
    return sentences


def _about_authenticity(figures: Figures) -> str:
    if figures.c_t is None:
        return ""
    if figures.auth_pct is None or figures.held_out_auth_pct is None:
        return "."
    return f", AuthPct {figures.auth_pct:.0f} (held-out images {figures.held_out_auth_pct:.0f})."


def _about_usability(figures: Figures, thresholds: Thresholds, unusable: Sequence[str]) -> list[str]:
    sentences = [
        f"{100 * figures.unlike_share:.0f} % of the images reach less than {thresholds.usable_similarity:g} times"
        " the similarity to their nearest real subject that 9 of 10 real subjects reach; an image is farther from"
        f" everybody than a real one with probability {figures.farther:.2f}, and more like the average of all with"
        f" {figures.average:.2f}."
    ]
    if unusable:
        sentences.append(
            f"As images they are no use: {' and '.join(unusable)}. No copies among such images say nothing"
            " about memorization."
        )
    if figures.repeated > HALF:
        sentences.append(f"{100 * figures.repeated:.0f} % of the images repeat an earlier one.")
    return sentences


def _about_clique(figures: Figures) -> list[str]:
    if figures.clique < MIN_CLIQUE:
        return []
    copies = figures.clique_copies or "none"
    return [
        f"{figures.clique} of {figures.num_synthetic} images are one picture, drawn again and again, which is how"
        " training images are extracted from a generator that learned them by heart (Carlini et al. 2023);"
        f" {copies} of them {'is a copy' if copies == 1 else 'are copies'} of training subjects."
    ]
