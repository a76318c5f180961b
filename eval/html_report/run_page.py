"""The page of one run, from what `run_protocol` puts into results.json: read `run_page` from top to bottom."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from .. import metrics
from ..published import published_tables
from ..stability import certificate, stability_rows
from . import svg_charts, thumbnails
from .html_tables import MEASURE_NAMES, best_of, measure_cell, number, p_value, table

CSS = Path(__file__).with_name("report.css")
ALL_MEASURES = ("srcc", "plcc", "plcc_mapped", "krcc", "rmse", "mae", "outlier_ratio", "parse_rate")
KINDS = {"quality": "human score", "distortion": "distortion", "content": "content"}


def run_page(results: Mapping[str, Any], pictures: Mapping[tuple[str, str], Path]) -> str:
    """The whole page as text.

    Arguments:
        results: what goes into results.json.
        pictures: (data set, id) -> file, for the thumbnails; pictures not there are left out.
    """
    protocol = results["protocol"]
    sets = [each["name"] for each in protocol["sets"]]
    sections = [("summary", "Summary", summary(results, sets))]
    if len(results["models"]) > 1:
        sections.append(("comparison", "Comparison of the models", comparison(results, sets)))
    sections += [(f"set-{place}", name, _data_set(results, name, pictures)) for place, name in enumerate(sets)]
    if results.get("stability"):
        sections.append(("stability", "Stability", stability(results)))
    sections.append(("settings", "Settings", settings(results)))
    return page(f"{protocol['title']}", protocol["about"], sections)


def page(title: str, about: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """An HTML document of (anchor, heading, HTML) sections, with its style inside."""
    links = "".join(f'<li><a href="#{anchor}">{escape(heading)}</a></li>' for anchor, heading, _ in sections)
    body = "".join(
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(heading)}</h2>{content}</section>'
        for anchor, heading, content in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{CSS.read_text(encoding='utf-8')}</style></head>"
        f'<body><a class="skip" href="#main">Skip to the results</a><header><h1>{escape(title)}</h1>'
        f'<p class="about">{escape(about)}</p></header><nav aria-label="Sections"><ul>{links}</ul></nav>'
        f'<main id="main" tabindex="-1">{body}</main></body></html>\n'
    )


def summary(results: Mapping[str, Any], sets: Sequence[str]) -> str:
    """The key, a chart and the table of the protocol's measures, and what peers published under it."""
    protocol, measures = results["protocol"], results["measures"]
    head_measure = protocol["measures"][0]
    rows = []
    for data_set in sets:
        for model in results["models"]:
            each = measures[model][data_set][head_measure]
            if each["value"] is not None:
                name = model if len(sets) == 1 else f"{data_set}, {model}"
                rows.append((name, _colour(results, model), each["value"], each["low"], each["high"]))
    chart = _key(results)
    if rows:
        chart += svg_charts.interval_chart(MEASURE_NAMES[head_measure], rows)
    return chart + f"<p>{_intervals(results)}</p>" + summary_table(results, sets) + _published(results, sets)


def summary_table(results: Mapping[str, Any], sets: Sequence[str]) -> str:
    """Models down, data sets across, with the protocol's measures; the best value of each column stands out."""
    measures, wanted = results["measures"], results["protocol"]["measures"]
    with_mean = any(results["mean"].values())
    head, columns = [], []
    for data_set in [*sets, *(["mean"] if with_mean else [])]:
        for name in wanted:
            head.append(f"{escape(data_set)}<br>{MEASURE_NAMES[name]}")
            columns.append(
                {
                    model: results["mean"][model].get(name) if data_set == "mean" else measures[model][data_set][name]
                    for model in results["models"]
                }
            )
    best = [best_of(column, name) for column, name in zip(columns, list(wanted) * len(columns))]
    rows = [
        [escape(model)]
        + [
            measure_cell(column[model], name, model in best[place])
            for place, (column, name) in enumerate(zip(columns, list(wanted) * len(columns)))
        ]
        for model in results["models"]
    ]
    return table(f"Agreement with people: {', '.join(MEASURE_NAMES[name] for name in wanted)}", head, rows, "model")


def _published(results: Mapping[str, Any], sets: Sequence[str]) -> str:
    found = ""
    wanted = results["protocol"]["measures"]
    for published in published_tables(results["protocol"]["name"]):
        columns = [(data_set, name) for data_set in [*sets, "mean"] for name in wanted]
        columns = [
            (data_set, name)
            for data_set, name in columns
            if any(name in row.get(data_set, {}) for row in published.rows.values())
        ]
        head = [f"{escape(data_set)}<br>{MEASURE_NAMES[name]}" for data_set, name in columns]
        rows = [
            [escape(method), *(number(row.get(data_set, {}).get(name)) for data_set, name in columns)]
            for method, row in published.rows.items()
        ]
        found += "<h3>Published under the same protocol</h3>"
        found += table(f"{published.source}. {published.note}", head, rows, "method")
    return found


def comparison(results: Mapping[str, Any], sets: Sequence[str]) -> str:
    """Every pair of models on every data set, a table for each measure."""
    text = (
        "<p>Differences of two models on the pictures that both scored, with bootstrap intervals. <i>p</i> (Holm) is "
        "corrected for all pairs and data sets of the measure; a model is called better where it is below "
        f"{1 - results['confidence']:.2g}. Williams' and Steiger's tests take all pictures for independent, even those "
        "that share a content.</p>"
    )
    for measure in results["protocol"]["measures"]:
        rows = []
        for pair in results["differences"]:
            if pair["measure"] != measure:
                continue
            name = f"{escape(pair['a'])} − {escape(pair['b'])}" + (
                f", {escape(pair['dataset'])}" if len(sets) > 1 else ""
            )
            verdict = {"a": pair["a"], "b": pair["b"], None: "not shown to differ"}[pair["better"]]
            difference = {
                "value": pair["difference"],
                "low": pair["low"],
                "high": pair["high"],
                "reason": pair["reason"],
            }
            tests = [p_value(pair[key]) for key in ("p", "p_holm", "p_williams", "p_steiger")]
            better = escape(verdict) if pair["p"] is not None else "–"
            rows.append([name, str(pair["n"]), measure_cell(difference, measure), *tests, better])
        head = ["n", "difference", "p", "p (Holm)", "p (Williams)", "p (Steiger)", "better"]
        text += table(f"Differences in {MEASURE_NAMES[measure]}", head, rows, "pair")
    return text


def stability(results: Mapping[str, Any]) -> str:
    """How far scores move where quality hardly does, a table for each model that has been asked."""
    text = (
        "<p>How far the scores move, in points of 1 to 5, when the same pictures are changed a little or scored in "
        "another way, as <code>mriqa stability</code> measured it before this run; and the rank correlation with the "
        "scores of the pictures as they are.</p>"
    )
    head = ["n", "mean move", "largest move", "SRCC with<br>plain scores"]
    for model, found in results["stability"].items():
        rows = [
            [escape(name), str(row["n"]), *(number(row[key]) for key in ("move_mean", "move_max", "srcc_with_plain"))]
            for name, row in stability_rows(found).items()
        ]
        source = found.get("source", f"{found['pictures']} pictures")
        text += table(f"{model} on {source}, readout {found['readout']}", head, rows, "change")
        text += f"<p>{escape(certificate(found))}</p>"
        for name, why in found["left_out"].items():
            text += f'<p class="note">Not measured: {escape(name)}. {escape(why)}</p>'
    return text


def _data_set(results: Mapping[str, Any], data_set: str, pictures: Mapping[tuple[str, str], Path]) -> str:
    measures = {model: results["measures"][model][data_set] for model in results["models"]}
    names = [name for name in ALL_MEASURES if any(name in each for each in measures.values())]
    best = {name: best_of({model: each.get(name) for model, each in measures.items()}, name) for name in names}
    seconds = {run["model"]: run["seconds_per_picture"] for run in results["runs"] if run["dataset"] == data_set}
    rows = [
        [
            escape(model),
            *(measure_cell(each.get(name), name, model in best[name]) for name in names),
            number(seconds[model]),
        ]
        for model, each in measures.items()
    ]
    first = next(iter(measures.values()))
    caption = f"All measures on {data_set}: {first['n']} pictures of {first['contents']} contents"
    content = table(caption, [*(MEASURE_NAMES[name] for name in names), "seconds a<br>picture"], rows, "model")
    for run in results["runs"]:
        if run["dataset"] == data_set:
            content += _one_model(results, run, {name: path for (of, name), path in pictures.items() if of == data_set})
    return content


def _one_model(results: Mapping[str, Any], run: Mapping[str, Any], pictures: Mapping[str, Path]) -> str:
    model, data_set = run["model"], run["dataset"]
    scored = [row for row in run["predictions"] if row["score"] is not None and not math.isnan(row["score"])]
    content = f"<h3>{escape(model)}</h3>"
    failed = [row for row in run["predictions"] if row["error"]]
    if failed:
        first = f"{failed[0]['id']}: {failed[0]['error']}"
        content += (
            f'<p class="note">{len(failed)} of {len(run["predictions"])} pictures have no score; {escape(first)}</p>'
        )
    if len(scored) < metrics.LOGISTIC_PARAMETERS:
        return content + '<p class="note">Fewer than four pictures have a score: there is nothing to draw.</p>'
    pred_N = np.array([row["score"] for row in scored])
    mos_N = np.array([row["mos"] for row in scored])
    titles = [f"{row['id']}: model {row['score']:.2f}, people {row['mos']:.2f}" for row in scored]
    colour = _colour(results, model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that fails is said below the chart
        mapped_N = metrics.logistic_map(pred_N, mos_N)
    has_map = not np.isnan(mapped_N).any()
    order = np.argsort(pred_N)
    curve = (pred_N[order], mapped_N[order]) if has_map else None
    charts = [svg_charts.scatter(model, colour, pred_N, mos_N, titles, curve)]
    if has_map:
        charts.append(svg_charts.residuals(model, colour, mapped_N, mos_N, titles))
    distribution = results["distributions"][model][data_set]
    if "calibration" in distribution:
        charts.append(svg_charts.calibration_curve(model, colour, distribution["calibration"]))
    content += f'<div class="charts">{"".join(charts)}</div>' + _distribution_note(distribution)
    content += _broken_down(results["breakdowns"][model][data_set], model)
    if has_map:
        rows = {row["id"]: {**row, "mapped": float(mapped)} for row, mapped in zip(scored, mapped_N)}
        worst, best = thumbnails.extremes({name: row["mapped"] - row["mos"] for name, row in rows.items()})
        content += thumbnails.gallery("Furthest from people", [rows[name] for name in worst], pictures)
        content += thumbnails.gallery("Closest to people", [rows[name] for name in best], pictures)
    return content


def _distribution_note(distribution: Mapping[str, Any]) -> str:
    if "reason" in distribution:
        return f'<p class="note">{escape(distribution["reason"])}</p>'
    pairs = distribution["pairs"]
    parts = [f"expected calibration error {distribution['calibration']['ece']:.3f}"]
    if "distances" in distribution:
        far = distribution["distances"]
        parts.append(
            f"mean distance to the human distribution: KL {far['kl']:.2f}, JS {far['js']:.3f}, Wasserstein "
            f"{far['wasserstein']:.2f}"
        )
    if pairs["accuracy"] is not None:
        parts.append(
            f"P(A better than B) agrees with people in {pairs['accuracy']:.1%} of {pairs['pairs']} pairs (Brier "
            f"{pairs['brier']:.3f})"
        )
    return f"<p>Predicted distribution: {escape('; '.join(parts))}.</p>"


def _broken_down(breakdowns: Mapping[str, Any], model: str) -> str:
    content = ""
    for kind, parts in breakdowns.items():
        rows = [
            [escape(part), str(each["n"]), measure_cell(each["srcc"], "srcc"), measure_cell(each["plcc"], "plcc")]
            + [number(each["bias"])]
            for part, each in parts.items()
        ]
        if rows:
            head = ["n", "SRCC", "PLCC", "mean error"]
            content += (
                f"<details><summary>{escape(model)} by {KINDS[kind]}</summary>"
                f"{table(f'{model} by {KINDS[kind]}', head, rows, KINDS[kind])}</details>"
            )
    return content


def settings(results: Mapping[str, Any]) -> str:
    """How everything was asked and measured."""
    models = [
        [
            escape(name),
            *(escape(_text(about.get(key))) for key in ("kind", "readout", "answer_format", "prompt_sha256")),
        ]
        + [
            escape(
                ", ".join(f"{key} {_text(about[key])}" for key in ("model", "package", "file", "score") if key in about)
            )
        ]
        for name, about in results["models"].items()
    ]
    runs = {run["dataset"]: run for run in results["runs"]}
    sets = [
        [escape(name), escape(run["source"]), *(escape(_text(run[key])) for key in ("split", "label", "pixels"))]
        for name, run in runs.items()
    ]
    audit = results["audit"]
    audited = "No training manifest was named, so nothing is known of leaks."
    if audit["train"]:
        shared = ", ".join(f"{count} with {name}" for name, count in audit["shared"].items() if count)
        audited = f"Training manifests {', '.join(audit['train'])} share {shared or 'nothing'} with these data sets"
        audited += " (pictures and contents)."
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return (
        table("Models", ["kind", "readout", "answer format", "prompt (SHA-256)", "what"], models, "model", words=True)
        + table("Data sets", ["from", "part", "label column", "pixels"], sets, "data set", words=True)
        + f"<p>{escape(audited)}</p>"
        + f"<p>Protocol <code>{escape(results['protocol']['identity'])}</code>: numbers may share a table only with "
        f"those of the same protocol. Seed {results['seed']}, {results['resamples']} resamples. {escape(versions)}. "
        f"Made {escape(results['created'])}.</p>"
    )


def _intervals(results: Mapping[str, Any]) -> str:
    kinds = {each["interval"] for sets in results["measures"].values() for each in sets.values()}
    text = []
    if "bootstrap" in kinds:
        text.append(f"Below a value stands its {results['confidence']:.0%} bootstrap interval; where pictures share a "
                    "content, contents are drawn.")  # fmt: skip
    if "splits" in kinds:
        text.append("Values of random splits are medians over the splits, with the lowest and the highest.")
    return " ".join(text)


def _key(results: Mapping[str, Any]) -> str:
    items = "".join(
        f'<li><i class="b{_colour(results, model)}"></i>{escape(model)}</li>' for model in results["models"]
    )
    return f'<ul class="key" aria-label="Colours of the models">{items}</ul>'


def _colour(results: Mapping[str, Any], model: str) -> int:
    return list(results["models"]).index(model) % svg_charts.COLOURS


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items() if item is not None)
    if value is None:
        return "–"
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)
