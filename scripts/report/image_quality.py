"""The measures of synthetic images in the report: one table per cohort, averaged over folds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.figure import FigureBase

from scripts.image_quality.gate import UNFINISHED, VERDICTS
from scripts.patches.pictures import COLORS, draw_svg
from scripts.provenance.study_files import StudyFiles
from scripts.report.words import format_number, format_p, name_method
from scripts.running.files import read_json
from scripts.statistics.intervals import mean_of_known

KEY = ("cohort", "network", "measure", "class", "method")
SPECTRUM_SIZE = (5.0, 2.8)  # inches
OF_FOLD = ("FD", "KD")  # in the features of a fold's own network: figures of two folds share no scale


def measure_section(files: StudyFiles) -> dict[str, Any]:
    """Collect the rows of every `measures.json`.

    Returns:
        Items of the template: `measures`, one per cohort: its name, the parts of the real images, groups of rows of one
        feature network, reasons why intervals are missing, and methods of which nothing says how their images were
        made; `measures_left_out`: networks that were not used, with the reason; `gates`: what `gate_rows` returns;
        `unfinished`: what `unfinished_images` returns of the methods that train; a control generator never finishes;
        `spectra`, `spectrum_figures` and `tissue_volumes`: see `spectrum_rows`, `spectrum_figures` and `tissue_rows`;
        `readers`: contents of `reader_results.json`, where people were asked.
    """
    contents = [content for content in map(read_json, files.named("measures.json")) if content["cohort"] is not None]
    groups: dict[tuple[str, str, str, str, str], list[Mapping[str, Any]]] = {}
    for content in contents:
        for name, result in content["classes"].items():
            for row in result["measures"]:
                key = (content["cohort"], row["network"], row["measure"], name, content["method"])
                groups.setdefault(key, []).append(row)
    order = {key: index for index, key in enumerate(dict.fromkeys((key[1], key[2]) for key in groups))}
    rows = [
        {**dict(zip(KEY, key, strict=True)), **average_rows(rows_of_key)}
        for key, rows_of_key in sorted(groups.items(), key=lambda item: (item[0][0], order[item[0][1:3]], item[0][3:]))
    ]
    left_out = {(item["network"], item["reason"]) for content in contents for item in content["left_out"]}
    gates = gate_rows(contents)
    return {
        "gates": gates,
        "unfinished": unfinished_images([row for row in gates if row["method"] not in files.control_methods]),
        "measures": [
            _describe_cohort(cohort, [row for row in rows if row["cohort"] == cohort], contents)
            for cohort in dict.fromkeys(content["cohort"] for content in contents)
        ],
        "spectra": spectrum_rows(contents),
        "spectrum_figures": spectrum_figures(contents),
        "tissue_volumes": tissue_rows(contents),
        "readers": [read_json(path) for path in files.named("reader_results.json")],
        "measures_left_out": [{"network": network, "reason": reason} for network, reason in sorted(left_out)],
    }


def gate_rows(contents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Put what the sets of each cohort, method and class reached of the gates together, over the folds.

    Args:
        contents: of `measures.json` files; those of before there were gates are left out.

    Returns:
        Rows with `cohort`, `method`, `class`, `num_folds`, `verdicts` (verdict -> number of folds, the gravest first),
        the mean `label_auc`, `real_label_auc`, `coverage` and `real_coverage`, None where no fold has it, `gate`, the
        two values to reach, and `reasons`, one per gate that a fold did not pass.
    """
    groups: dict[tuple[str, str, str], list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
    for content in (content for content in contents if "gate" in content):
        for name, result in content["classes"].items():
            groups.setdefault((content["cohort"], content["method"], name), []).append((content, result["gate"]))
    rows = []
    for (cohort, method, name), members in sorted(groups.items()):
        verdicts = [judged["verdict"] for _, judged in members]
        areas = [content["label_auc"] for content, _ in members]
        rows.append(
            {
                **{"cohort": cohort, "method": method, "class": name, "num_folds": len(members)},
                "verdicts": {verdict: verdicts.count(verdict) for verdict in VERDICTS if verdict in verdicts},
                "label_auc": mean_of_known(area["value"] for area in areas),
                "real_label_auc": mean_of_known(area["real"] for area in areas),
                "coverage": mean_of_known(judged["coverage"] for _, judged in members),
                "real_coverage": mean_of_known(judged["real_coverage"] for _, judged in members),
                "gate": members[0][0]["gate"],
                "reasons": list(dict.fromkeys(reason for _, judged in members for reason in judged["reasons"])),
            }
        )
    return rows


def unfinished_images(gates: Sequence[Mapping[str, Any]]) -> str:
    """Say of which methods some sets are unfinished, by what `gate_rows` returns; empty where none is."""
    counts: dict[str, list[int]] = {}
    for row in gates:
        of_method = counts.setdefault(row["method"], [0, 0])
        of_method[0] += row["verdicts"].get(UNFINISHED, 0)
        of_method[1] += row["num_folds"]
    named = [f"{name_method(method)} ({few} of {all_} sets)" for method, (few, all_) in counts.items() if few]
    if not named:
        return ""
    gate = gates[0]["gate"]
    return (
        f"By measurement, images of {' and '.join(named)} are unfinished: their label AUC is below"
        f" {format_number(gate['label_auc'], 2)} or their coverage below {format_number(gate['coverage'], 2)}, which"
        " real images reach. What a classifier gains or loses by such images says little about the method."
    )


def spectrum_rows(contents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """List what the power spectra of the sets show, folds of one sentence together.

    Args:
        contents: of `measures.json` files; those of before there were spectra are left out.

    Returns:
        Rows with `cohort`, `class`, `method`, `folds` and `sentence`.
    """
    folds: dict[tuple[str, str, str, str], list[int]] = {}
    for content, name, spectrum in _spectra(contents):
        sentence = spectrum["sentence"] or f"Not measured: {spectrum['reason']}."
        folds.setdefault((content["cohort"], name, content["method"], sentence), []).append(content["fold"])
    keys = ("cohort", "class", "method", "sentence")
    rows = [{**dict(zip(keys, key, strict=True)), "folds": sorted(of)} for key, of in folds.items()]
    return sorted(rows, key=lambda row: (*[row[key] for key in keys[:3]], row["folds"]))


def spectrum_figures(contents: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Draw, of each cohort and class, how the spectra of the methods differ from that of real images.

    Returns:
        `name` and `svg` of each: differences in decibels, means over folds, over the frequencies; shaded is what real
        images differ by among each other.
    """
    groups: dict[tuple[str, str], dict[str, list[Mapping[str, Any]]]] = {}
    for content, name, spectrum in _spectra(contents):
        if spectrum["sentence"]:
            of_method = groups.setdefault((content["cohort"], name), {})
            of_method.setdefault(content["method"], []).append(spectrum)
    return [
        {"name": ", ".join(key), "svg": draw_svg(partial(_draw_spectra, methods=methods), SPECTRUM_SIZE)}
        for key, methods in sorted(groups.items())
    ]


def tissue_rows(contents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """List the tissue volumes of the sets of volumes, fold by fold.

    Returns:
        What `compare_tissue_volumes` returned of each set, with its `cohort`, `class`, `method` and `fold`.
    """
    return [
        {**{key: content[key] for key in ("cohort", "method", "fold")}, "class": name, **result["tissue_volumes"]}
        for content in contents
        for name, result in content["classes"].items()
        if result.get("tissue_volumes")
    ]


def _spectra(contents: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], str, Mapping[str, Any]]]:
    for content in contents:
        for name, result in content["classes"].items():
            if "spectrum" in result:
                yield content, name, result["spectrum"]


def _draw_spectra(figure: FigureBase, methods: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    axes = figure.subplots()
    first = next(iter(methods.values()))[0]
    edges = np.array(first["edges"])
    middles = (edges[:-1] + edges[1:]) / 2
    band = np.mean([item["band_db"] for folds in methods.values() for item in folds], axis=0)
    axes.fill_between(middles, -band, band, color="0.5", alpha=0.25, linewidth=0, label="real among each other")
    for color, (method, folds) in zip(cycle(COLORS), methods.items(), strict=False):
        difference = np.mean([item["difference_db"] for item in folds], axis=0)
        axes.plot(middles, difference, color=color, label=name_method(method), linewidth=1.3, marker=".")
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.set_xlabel(f"frequency, {first['unit']}")
    axes.set_ylabel("synthetic less real, dB")
    axes.grid(alpha=0.25)
    figure.legend(fontsize=7, loc="outside lower center", ncols=3)


def image_figures(files: StudyFiles) -> list[dict[str, Any]]:
    """List the measures of every set as numbers, means over folds.

    Returns:
        Rows with `cohort`, `class`, `method`, `network`, `measure`, `direction`, `value`, `low` and `high` (of a single
        fold), `floor` (of two halves of the real images) and `n`, synthetic images; those without a value are left out.
    """
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for content in map(read_json, files.named("measures.json")):
        for name, result in content["classes"].items() if content["cohort"] is not None else ():
            for row in result["measures"]:
                key = (content["cohort"], row["network"], row["measure"], name, content["method"])
                groups.setdefault(key, []).extend([row] if row["value"] is not None else [])
    return [
        {
            **dict(zip(KEY, key, strict=True)),
            "direction": rows[0]["direction"],
            "value": mean_of_known(row["value"] for row in rows),
            "low": rows[0].get("low") if len(rows) == 1 else None,
            "high": rows[0].get("high") if len(rows) == 1 else None,
            "floor": mean_of_known(row["floor"]["mean"] for row in rows),
            "n": rows[0]["num_synthetic"],
        }
        for key, rows in groups.items()
        if rows
    ]


def generator_table(figures: Sequence[Mapping[str, Any]], audited: Sequence[Mapping[str, Any]]) -> str:
    """Lay out generators as text, for the end of a run: the audit's verdict, copies, and each measure with its floor.

    Args:
        figures: what `image_figures` returns.
        audited: rows of `scripts.report.audit.audit_section`.

    Returns:
        A line for each cohort, class and method; a last line with the floors, two halves of the real images.
    """
    measures = list(dict.fromkeys((row["network"], row["measure"]) for row in figures))
    values = {(row["network"], row["measure"], row["cohort"], row["class"], row["method"]): row for row in figures}
    several = len({(row["cohort"], row["class"]) for row in audited}) > 1
    lines = [["generator", "audit", "copies", *(name for _, name in measures)]]
    for row in audited:
        own = (row["cohort"], row["class"], row["method"])
        name = f"{row['method']} ({row['cohort']}, {row['class']})" if several else row["method"]
        cells = [values.get((*measure, *own)) for measure in measures]
        lines.append([name, row["verdict"], f"{row['copies']} of {row['num_synthetic']}", *map(_cell, cells)])
    floors = [mean_of_known(row["floor"] for row in figures if (row["network"], row["measure"]) == m) for m in measures]
    lines.append(["real, half against half", "", "", *map(_short, floors)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _cell(row: Mapping[str, Any] | None) -> str:
    return _short(row["value"] if row else None)


def average_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Average the rows of one measure, class and method over the folds.

    Args:
        rows: of `measures.json`, one per fold.

    Returns:
        Texts for the table: `value` (of `OF_FOLD` that of each fold, else the mean, of two folds with both, of more
        with the standard deviation), `interval` of a single fold, `at_floor_n`, `floor` with its spread over halves,
        `ratio`, whose scale all folds share, `p_value`, `num_synthetic`, `num_real`, `direction`, `kernel`, `reason`
        (of a fold without a value), `interval_reason` (of a single fold without an interval) and `num_folds`, those
        with a value.
    """
    measured = [row for row in rows if row["value"] is not None]
    reasons = [row["reason"] for row in rows if row["value"] is None]
    floors = [row["floor"] for row in measured]
    single: Mapping[str, Any] = measured[0] if len(measured) == 1 else {}
    low, high = single.get("low"), single.get("high")
    in_words = _by_fold if rows[0]["measure"] in OF_FOLD else _mean_and_spread
    return {
        "value": in_words([row["value"] for row in measured]),
        "interval": "" if low is None else f"{_short(low)} to {_short(high)}",
        "at_floor_n": in_words([row["value_at_floor_n"] for row in measured]),
        "floor": _floors_in_words(floors if rows[0]["measure"] in OF_FOLD else _mean_floor(floors)),
        "floor_n": _range(str(n) for n in sorted(floor["n"] for floor in floors)),
        "ratio": _mean_and_spread([row["ratio"] for row in measured if row["ratio"] is not None]),
        "p_value": _range(
            format_p(p) for p in sorted(row["p_value"] for row in measured if row["p_value"] is not None)
        ),
        "num_synthetic": _range(str(n) for n in sorted(row["num_synthetic"] for row in rows)),
        "num_real": _range(str(n) for n in sorted(row["num_real"] for row in rows)),
        "direction": rows[0]["direction"],
        "kernel": "; ".join(dict.fromkeys(row["kernel"] for row in measured if row.get("kernel"))),
        "reason": reasons[0] if reasons else None,
        "interval_reason": single.get("interval_reason") if low is None else None,
        "num_folds": len(measured),
    }


def _describe_cohort(
    cohort: str, rows: Sequence[Mapping[str, Any]], contents: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    own = [content for content in contents if content["cohort"] == cohort]
    networks = dict.fromkeys(row["network"] for row in rows)
    without: dict[str, list[str]] = {}
    for row in rows:
        if row["interval_reason"]:
            name = f"{row['measure']} ({row['network']}, {row['class']}, {name_method(row['method'])})"
            without.setdefault(row["interval_reason"], []).append(name)
    return {
        "cohort": cohort,
        "real_parts": own[-1]["real_parts"],
        "networks": [{"network": name, "rows": [row for row in rows if row["network"] == name]} for name in networks],
        "without_interval": [{"names": names, "reason": reason} for reason, names in without.items()],
        "not_made_alike": sorted({content["method"] for content in own if content.get("made_alike") is False}),
    }


def _mean_floor(floors: Sequence[Mapping[str, Any]]) -> list[dict[str, float | None]]:
    return [{key: mean_of_known(floor[key] for floor in floors) for key in ("mean", "sd")}]


def _floors_in_words(floors: Sequence[Mapping[str, float | None]]) -> str:
    return " / ".join(f"{_short(floor['mean'])} ± {_short(floor['sd'])}" for floor in floors) or _short(None)


def _mean_and_spread(values: Sequence[float]) -> str:
    """Write the mean; of two values also both, as a deviation of two says nothing, of more the standard deviation."""
    mean = _short(mean_of_known(values))
    if len(values) < 2:
        return mean
    if len(values) == 2:
        return f"{mean} ({_short(min(values))}, {_short(max(values))})"
    return f"{mean} ± {_short(float(np.std(values, ddof=1)))}"


def _by_fold(values: Sequence[float]) -> str:
    """Write the value of each fold, in the order of the folds."""
    return " / ".join(map(_short, values)) or _short(None)


def _range(texts: Iterable[str]) -> str:
    """Write the first and the last of sorted texts, once where they are the same."""
    unique = list(dict.fromkeys(texts))
    return "–" if not unique else unique[0] if len(unique) == 1 else f"{unique[0]} to {unique[-1]}"


def _short(value: float | None) -> str:
    return format_number(value, significant=3)
