"""What the page says, without the page: scores, their order, refusals, and how a distortion moves a score."""

from __future__ import annotations

import base64
import io
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from upload_files import encode, grey, hostile

from mriqa.distortions import LABELLED, distort
from mriqa.page.drawings import cards, curve_plot, distribution_plot
from mriqa.page.judge import CURVE_SEVERITIES, DISTORTIONS, Judge, Judged, Upload, in_order, short_name
from mriqa.scoring.reading import Distribution
from mriqa.scoring.scorer import Score
from mriqa.serving.limits import Limits


@pytest.fixture
def judge(scorer) -> Judge:
    return Judge(scorer, Limits(file_bytes=2**20))


@pytest.fixture
def drop(tmp_path):
    def write(files: dict[str, bytes]) -> list[Upload]:
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        return [Upload(name, tmp_path / name) for name in files]

    return write


def test_bad_files_are_refused_for_their_reason_and_the_others_scored(judge, drop):
    bad = hostile()
    files = {"dark.png": grey(51), **{name: data for name, (data, _) in bad.items()}, "light.png": grey(204)}
    found = judge.judge(drop(files))
    assert [one.score.image for one in found] == list(files)
    assert [one.score.score for one in (found[0], found[-1])] == pytest.approx([1.8, 4.2])
    for one in found[1:-1]:
        assert bad[one.score.image][1] in one.score.error and math.isnan(one.score.score) and not one.thumbnail


def test_order(judge, drop):
    levels = {"b": 100, "d": 20, "a": 250, "c": 100}
    found = judge.judge(drop({name: grey(level) for name, level in levels.items()} | {"none": b""}))

    def names(order: str) -> str:
        return "".join(one.score.image for one in in_order(found, order))

    assert [names("Best first"), names("Worst first"), names("As dropped")] == ["abcd", "dbca", "bdac"]


def test_curve_is_the_score_of_the_distorted_copy(judge, drop):
    """Against distort() and the rule of brightness by hand; the copy has at most 768 pixels a side."""
    pixels = np.random.default_rng(1).integers(40, 220, (96, 1536, 3), np.uint8)
    (upload,) = drop({"wide.png": encode(Image.fromarray(pixels))})
    small = Image.fromarray(pixels).resize((768, 48), Image.Resampling.LANCZOS)
    image = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None] / 255
    curve = judge.curve(upload.path, "Too dark")
    for severity, score in curve:
        by_hand = 1 + 4 * float(distort(image, "darken", severity).mean())
        assert score == pytest.approx(by_hand, abs=0.02)  # the copy is 8-bit, and shrunk its own way
    assert tuple(severity for severity, _ in curve) == CURVE_SEVERITIES
    assert [score for _, score in curve] == sorted((score for _, score in curve), reverse=True)
    at_1 = judge.distorted(upload.path, "Too dark", 1.0)
    assert at_1.size == (768, 48) and at_1.score.score == pytest.approx(curve[-1][1])


def test_every_distortion_on_offer_has_human_scores_and_runs(judge, drop):
    (upload,) = drop({"a.png": grey(120)})
    assert set(DISTORTIONS.values()) <= set(LABELLED)
    for name in DISTORTIONS:
        assert judge.distorted(upload.path, name, 0.5).size == (96, 64)


def test_distribution_is_drawn_where_the_scores_are():
    """Three of four answers 2.04 and one 4.0: bars in the bins 2.0 and 4.0, the first thrice as tall."""
    score = Score("a", 2.53, 0.85, distribution=Distribution(np.array([2.04, 4.0]), np.array([0.75, 0.25])))
    drawing = distribution_plot(score)
    bars = re.findall(r"M([\d.]+) \d+v-([\d.]+)h([\d.]+)V", drawing)
    assert len(bars) == 2
    left, right = (float(x) + float(width) / 2 for x, _, width in bars)
    ticks = {int(grade): float(x) for x, grade in re.findall(r'<text x="([\d.]+)"[^>]*>(\d)</text>', drawing)}
    assert (left, right) == pytest.approx((ticks[2], ticks[4]), abs=0.2)
    assert float(bars[0][1]) == pytest.approx(3 * float(bars[1][1]), rel=0.01)
    assert "mq-bars" in drawing and 'd=""' in distribution_plot(replace(score, distribution=None))


def test_curve_has_its_dot_at_the_slider_and_leaves_out_what_has_no_score():
    drawing = curve_plot([(0.0, 5.0), (0.5, math.nan), (1.0, 1.0)], 0.25, 3.0, "Blur")
    (points,) = re.findall(r'class="mq-line" points="([^"]+)"', drawing)
    (x0, y0), (x1, y1), (x2, y2) = ([float(number) for number in pair.split(",")] for pair in points.split())
    dot = [float(number) for number in re.search(r'cx="([\d.]+)" cy="([\d.]+)"', drawing).groups()]
    assert dot == pytest.approx([x1, y1]) and x1 == pytest.approx(x0 + (x2 - x0) / 4, abs=0.1)
    assert y1 == pytest.approx((y0 + y2) / 2, abs=0.1) and y0 < y2
    assert "circle" not in curve_plot([(0.0, math.nan)], 0.25, math.nan, "Blur")


def test_names_are_shown_and_never_believed(judge, drop):
    assert short_name("C:\\holiday\\a.jpg", 0) == "a.jpg" and short_name("../../etc/passwd", 0) == "passwd"
    assert short_name(None, 2) == "picture 3" and short_name("\u202e\n", 0) == "picture 1"
    assert len(short_name("x" * 999, 0)) == 80
    name = '"><script>alert(1)<'
    page = [replace(one, score=replace(one.score, image=name)) for one in judge.judge(drop({"a": grey(9), "b": b""}))]
    assert "<script" not in cards(in_order(page, "Best first"), page)


def test_a_map_shows_where_an_upload_is_bad_and_is_made_once(judge, drop):
    halves = Image.new("RGB", (300, 300), "black")
    halves.paste("white", (150, 0, 300, 300))
    uploads = drop({"halves.png": encode(halves), "none.png": b""})
    judged = judge.judge(uploads)
    assert not any(one.map for one in judged) and "mq-scale" not in cards(in_order(judged, "Best first"), judged)
    mapped, refused = judge.with_maps(judged, uploads)
    header, _, data = mapped.map.partition(",")
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
    assert header.startswith("data:image/jpeg") and shown.shape == (300, 300, 3)
    assert shown[150, 4, 1] + 100 < shown[150, 295, 1]  # violet at the left, yellow at the right
    assert refused.map == "" and judge.with_maps(judged, uploads)[0].map is mapped.map
    page = cards(in_order([mapped, refused], "Best first"), [mapped, refused])
    assert "halves.png, where it is bad and good" in page and page.count("mq-scale") == 1


def test_a_calibrated_score_is_shown_with_its_interval():
    sure = Score("a", 3.0, 0.4, interval=(2.46, 3.54), strangeness=0.1)
    page = cards([Judged(sure)], [Judged(sure)])
    assert "2.5 to 3.5" in page and "±" not in page and "Unlike" not in page
    left, right = (float(x) for x in re.search(r'mq-interval" d="M([\d.]+) \d+H([\d.]+)"', page).groups())
    ticks = {int(grade): float(x) for x, grade in re.findall(r'<text x="([\d.]+)"[^>]*>(\d)</text>', page)}
    point = ticks[2] - ticks[1]
    assert (left, right) == pytest.approx((ticks[2] + 0.46 * point, ticks[3] + 0.54 * point), abs=0.2)
    strange = replace(sure, strangeness=0.9)
    assert "Unlike the pictures" in cards([Judged(strange)], [Judged(strange)])
    plain = replace(sure, interval=None, strangeness=None)
    assert "± 0.40" in cards([Judged(plain)], [Judged(plain)]) and "mq-interval" not in distribution_plot(plain)
