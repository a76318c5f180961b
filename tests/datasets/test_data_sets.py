"""Each adapter on a miniature of its official folder: rows, scale, direction, deviation, contents, splits, by value."""

from __future__ import annotations

import math
from pathlib import Path

import official_trees
import pytest
from official_trees import TREES, picture, sheet, table

from mriqa.datasets.catalogue import DATA_SETS
from mriqa.datasets.data_set import DataSetError
from mriqa.datasets.to_manifest import Prepared, prepare
from mriqa.manifest import read_manifest


@pytest.fixture
def prepared(tmp_path):
    """A function that builds a miniature tree and prepares it; built only once for each test."""

    def run(name: str, **options) -> Prepared:
        root = tmp_path / name
        if not root.exists():
            TREES[name](root)
        return prepare(name, root, **{"allow_partial": True, **options})

    return run


def rows_of(prepared: Prepared, folder: Path = Path("/")) -> dict[str, dict]:
    return {row["id"]: row for row in prepared.rows(folder)}


def test_every_data_set_has_a_tree_here():
    assert set(TREES) == set(DATA_SETS)


@pytest.mark.parametrize("name", sorted(DATA_SETS))
def test_a_manifest_that_the_reader_understands(prepared, tmp_path, name):
    """Written beside the pictures, it is read without any option, on 1..5 and the right way round."""
    found = prepared(name)
    (path,) = found.write(tmp_path / f"{name}.jsonl")
    if not DATA_SETS[name].labels:
        with pytest.raises(ValueError, match=r"^No row of manifest .* has a human score .*; name a manifest .*\.$"):
            read_manifest(path)
        return
    read = read_manifest(path)
    scale = next(iter(DATA_SETS[name].labels.values())).scale
    assert len(read) == len(found.entries) and {row.dataset for row in read} == {name}
    for row, entry in zip(read, found.entries, strict=True):
        share = (entry.mos - scale.low) / (scale.high - scale.low)
        expected = 1 + 4 * (share if scale.direction == "higher" else 1 - share)
        assert row.mos == pytest.approx(expected) and row.id == entry.name
        if entry.std is not None:
            assert row.std == pytest.approx(entry.std * 4 / (scale.high - scale.low))


@pytest.mark.parametrize("name", sorted(set(DATA_SETS) - {"live"}))
def test_a_miniature_is_refused_as_partial(prepared, name):
    with pytest.raises(DataSetError, match="is not complete: .*--allow-partial") as refusal:
        prepared(name, allow_partial=False)
    assert f"{DATA_SETS[name].rows:,}" in str(refusal.value) and DATA_SETS[name].home in str(refusal.value)


def test_koniq_has_two_label_files(prepared, tmp_path):
    both = prepared("koniq10k")
    assert both.labels.scale_name == "koniq10k" and both.parts() == {"training": 1, "validation": 1, "test": 1}
    first = rows_of(both)["1.jpg"]
    assert (first["mos"], first["std"], first["score_scale"]) == (3.5, 0.527046, "koniq10k")
    assert "rating_std" not in first and "content" not in first

    zscore = rows_of(prepared("koniq10k", labels="zscore"))["1.jpg"]
    assert (zscore["mos"], zscore["rating_std"], zscore["score_scale"]) == (70.0, 0.527046, "koniq10k_zscore")
    assert "std" not in zscore, "the deviation is on 1..5 and must not be rescaled with the z-score"

    official_trees.koniq10k(tmp_path / "b", scores=False, size="512x384")
    b = rows_of(prepare("koniq10k", tmp_path / "b", allow_partial=True))["2.jpg"]
    assert b["mos"] == 20.0 and b["score_scale"] == "koniq10k_zscore" and b["split"] == "validation"
    assert b["image"].endswith("512x384/2.jpg") and b["rating_std"] == 0.527046
    counted = rows_of(prepare("koniq10k", tmp_path / "b", allow_partial=True, labels="mos"))["2.jpg"]
    assert (counted["mos"], counted["std"]) == (1.5, 0.527046), "the mean of 5 ones and 5 twos"

    official_trees.koniq10k(tmp_path / "a", sets=False)
    assert not prepare("koniq10k", tmp_path / "a", allow_partial=True).parts()
    with pytest.raises(DataSetError, match="official split of koniq10k stands in .*koniq10k_distributions_sets.csv"):
        prepare("koniq10k", tmp_path / "a", allow_partial=True, split="official")


def test_minmax_is_mr_iqas_for_koniq(tmp_path):
    """methods.md: 1.096 becomes 1 and 4.31 becomes 5, deviations by the same slope of 1.245."""
    header = ["image_name", "MOS", "SD", "MOS_zscore"]
    scores = [["1.jpg", 1.096, 0.5, 4.0], ["2.jpg", 4.31, 0.5, 88.0], ["3.jpg", 2.703, 0.8, 50.0]]
    table(tmp_path / "koniq10k_scores_and_distributions.csv", header, scores)
    for row in scores:
        picture(tmp_path / "1024x768" / row[0])
    found = prepare("koniq10k", tmp_path, normalise="minmax", allow_partial=True)
    rows = rows_of(found)
    assert [rows[name]["mos"] for name in ("1.jpg", "2.jpg")] == [1.0, 5.0]
    assert rows["3.jpg"]["mos"] == pytest.approx(3.0) and rows["1.jpg"]["std"] == pytest.approx(0.5 * 1.245, rel=1e-3)
    assert {row["score_scale"] for row in rows.values()} == {"mos"}
    (path,) = found.write(tmp_path / "minmax.jsonl")
    assert [row.mos for row in read_manifest(path)][:2] == [1.0, 5.0]

    zscore = rows_of(prepare("koniq10k", tmp_path, normalise="minmax", labels="zscore", allow_partial=True))
    assert all("std" not in row and row["rating_std"] in (0.5, 0.8) for row in zscore.values())

    scores[0][1] = 1.0
    table(tmp_path / "koniq10k_scores_and_distributions.csv", header, scores)
    with pytest.raises(
        DataSetError, match=r"1 scores in .* lie outside koniq10k's 1.09\d+..4.31\d+ \(first: 1 of 1.jpg"
    ):
        prepare("koniq10k", tmp_path, normalise="minmax", allow_partial=True)


def test_minmax_turns_a_lower_is_better_scale_round(prepared):
    rows = rows_of(prepared("csiq", normalise="minmax"))
    assert rows["awgn/1600.AWGN.2.png"]["mos"] == pytest.approx(5 - 4 * 0.2)
    assert rows["awgn/1600.AWGN.2.png"]["std"] == pytest.approx(4 * 0.05)


def test_spaq(prepared):
    rows = rows_of(prepared("spaq"))
    assert rows["00002.jpg"]["mos"] == 78.75 and rows["00002.jpg"]["score_scale"] == "spaq"
    assert "std" not in rows["00002.jpg"]


def test_livec_drops_the_raters_training_pictures(prepared):
    rows = rows_of(prepared("livec"))
    assert list(rows) == ["3.bmp", "10.JPG", "1024.bmp"]
    assert rows["3.bmp"]["mos"] == 63.9634 and rows["10.JPG"]["std"] == 12.5 / 4


def test_agiqas_content_is_the_prompt(prepared):
    rows = rows_of(prepared("agiqa3k"))
    assert rows["sd1.5_0.jpg"]["content"] == rows["AttnGAN_0.jpg"]["content"] == "a cat, on a mat"
    assert (rows["sd1.5_1.jpg"]["mos"], rows["sd1.5_1.jpg"]["std"]) == (2.5, 1.25)


def test_kadids_columns_mislead(prepared):
    """dmos is higher for better pictures and var is a deviation already."""
    found = prepared("kadid10k")
    row = rows_of(found)["I02_10_05.png"]
    assert (row["mos"], row["std"], row["distortion"], row["level"]) == (1.2, 0.496, "jpeg", 5)
    assert row["content"] == "I02" and row["reference"].endswith("images/I02.png")
    assert found.labels.scale.direction == "higher"
    assert rows_of(found)["I01_01_01.png"]["distortion"] == "gaussian_blur"
    assert rows_of(found)["I03_25_01.png"]["distortion"] == "contrast_change"


def test_csiqs_spelling_and_its_list(prepared, tmp_path):
    found = prepared("csiq")
    row = rows_of(found)["jpeg2000/1600.jpeg2000.2.png"]
    assert row["mos"] == pytest.approx(0.4) and row["std"] == 0.05 and row["level"] == 2
    assert row["content"] == "1600" and row["reference"].endswith("src_imgs/1600.png")
    assert found.labels.scale.direction == "lower"

    (tmp_path / "csiq" / "csiq.DMOS.xlsx").unlink()
    listed = [["dst_imgs/awgn/1600.AWGN.2.png", "AWGN", "src_imgs/1600.png", 0.2]]
    table(tmp_path / "csiq" / "CSIQ.txt", ["dis_img_path", "dis_type", "ref_img_path", "score"], listed)
    (row,) = rows_of(prepared("csiq")).values()
    assert (row["id"], row["mos"], row["level"], row["distortion"]) == ("awgn/1600.AWGN.2.png", 0.2, 2, "awgn")


def test_pipal_has_no_header(prepared):
    found = prepared("pipal")
    row = rows_of(found)["A0002_05_03.bmp"]
    assert (row["mos"], row["content"], row["distortion"], row["level"]) == (1402.5, "A0002", "05", 3)
    assert len(found.entries) == 6 and row["reference"].endswith("Train_Ref/A0002.bmp")


def test_tid_mixes_cases(prepared):
    rows = rows_of(prepared("tid2013"))
    assert rows["I01_01_1.bmp"]["image"].endswith("i01_01_1.BMP")
    second = rows["i02_24_5.bmp"]
    assert (second["mos"], second["std"], second["content"], second["level"]) == (3.5, 0.2, "I02", 5)
    assert second["distortion"] == "sparse_sampling" and second["reference"].endswith("i02.bmp")


def test_live_drops_undistorted_copies_and_is_complete(prepared):
    """982 pictures, 203 of them copies; nothing is partial about it."""
    found = prepared("live", allow_partial=False)
    rows = rows_of(found)
    assert len(rows) == 779
    (note,) = found.notes  # the last score, and so the published end of the range, is that of a copy
    assert "where -2.64 to 111.77 is known" in note
    assert "jp2k/img170.bmp" not in rows and "wn/img146.bmp" not in rows
    step = (111.77 + 2.64) / 981
    row = rows["jpeg/img3.bmp"]  # the 230th of the list
    assert row["mos"] == pytest.approx(-2.64 + 229 * step) and row["std"] == 7.5
    assert row["content"] == f"ref{229 % 29:02d}" and row["reference"].endswith(f"ref{229 % 29:02d}.bmp")
    assert found.labels.scale.direction == "lower"
    older = rows_of(prepared("live", labels="dmos", check_images=False))["jpeg/img3.bmp"]
    assert older["mos"] == pytest.approx(row["mos"] / 2) and "std" not in older


def test_bids_deviation_is_that_of_the_single_grades(prepared):
    rows = rows_of(prepared("bid"))
    assert rows["DatabaseImage0001.JPG"]["std"] == 1.0
    assert rows["DatabaseImage0002.JPG"]["std"] == pytest.approx(math.sqrt(0.5))
    assert rows["DatabaseImage0002.JPG"]["mos"] == 4.5


def test_flives_official_split(prepared):
    rows = rows_of(prepared("flive"))
    parts = {name: row["split"] for name, row in rows.items()}
    assert parts == {
        "voc_emotic_ava/a.jpg": "test",
        "voc_emotic_ava/b.jpg": "validation",
        "blur_dataset/c.jpg": "training",
        "EE371R/d.jpg": "training",
    }
    assert rows["blur_dataset/c.jpg"]["mos"] == 72.0


def test_uhd_iqa_with_the_label_files_of_the_challenge(prepared, tmp_path):
    rows = rows_of(prepared("uhdiqa"))
    assert rows["b.jpg"]["mos"] == 0.7125 and rows["b.jpg"]["split"] == "validation"
    assert rows["b.jpg"]["image"].endswith("validation/b.jpg")
    (tmp_path / "uhdiqa" / "uhd-iqa-metadata.csv").unlink()
    table(tmp_path / "uhdiqa" / "uhd-iqa-training-metadata.csv", ["image_name", "quality_mos"], [["a.jpg", 0.5]])
    (row,) = rows_of(prepared("uhdiqa")).values()
    assert (row["id"], row["split"]) == ("a.jpg", "training")


def test_unlabelled_sets_have_no_scores(prepared):
    for name, count in (("kadis700k", 2), ("waterloo", 2)):
        rows = prepared(name).rows(Path("/"))
        assert len(rows) == count and all({"mos", "std", "score_scale"}.isdisjoint(row) for row in rows)
    with pytest.raises(DataSetError, match="no scores to normalise"):
        prepared("waterloo", normalise="minmax")


def test_a_missing_folder_or_label_file_is_named(prepared, tmp_path):
    with pytest.raises(DataSetError, match="does not exist; name the folder with --root"):
        prepare("spaq", tmp_path / "nowhere")
    prepared("spaq")
    root = tmp_path / "spaq"
    (root / "TestImage").rename(root / "Pictures")
    with pytest.raises(DataSetError, match=r"has no folder 'TestImage', only the folders Annotations, Pictures"):
        prepare("spaq", root, allow_partial=True)
    (root / "Annotations" / "MOS and Image attribute scores.xlsx").rename(root / "other.xlsx")
    with pytest.raises(DataSetError, match=r"has no label file 'MOS and Image .*', only the files other.xlsx;"):
        prepare("spaq", root, allow_partial=True)


def test_a_label_file_of_another_version_is_refused(prepared, tmp_path):
    prepared("koniq10k")
    path = tmp_path / "koniq10k" / "koniq10k_scores_and_distributions" / "koniq10k_scores_and_distributions.csv"
    table(path, ["image_name", "MOS", "SD"], [["1.jpg", 55.5, 0.5]])
    with pytest.raises(DataSetError, match=r"lie outside koniq10k's 1..5 \(first: 55.5 of 1.jpg\)"):
        prepared("koniq10k")
    table(path, ["image", "score"], [["1.jpg", 3.5]])
    with pytest.raises(DataSetError, match=r"has no column 'image_name' or 'MOS' or 'SD', only image, score"):
        prepared("koniq10k")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataSetError, match="is not text"):
        prepared("koniq10k")


def test_more_rows_than_there_are_is_another_version_even_as_partial(tmp_path):
    """The 7 pictures that trained LIVE-Challenge's raters, under other names, make 7 rows too many."""
    import numpy as np
    import scipy.io

    names = [f"{place}.bmp" for place in range(1, 1170)]
    picture(tmp_path / "Images" / "1.bmp")
    scipy.io.savemat(tmp_path / "AllImages_release.mat", {"AllImages_release": official_trees.cells(*names)})
    for key in ("AllMOS_release", "AllStdDev_release"):
        scipy.io.savemat(tmp_path / f"{key}.mat", {key: np.full((1, 1169), 50.0)})
    with pytest.raises(DataSetError, match=r"lists 1,169 pictures, but LIVE In the Wild \(Challenge\) has 1,162"):
        prepare("livec", tmp_path, allow_partial=True)


def test_names_match_whatever_their_case(prepared, tmp_path):
    prepared("kadid10k")
    (tmp_path / "kadid10k" / "images").rename(tmp_path / "kadid10k" / "IMAGES")
    (tmp_path / "kadid10k" / "IMAGES" / "I01_01_01.png").rename(tmp_path / "kadid10k" / "IMAGES" / "i01_01_01.PNG")
    (tmp_path / "kadid10k" / "dmos.csv").rename(tmp_path / "kadid10k" / "DMOS.CSV")
    row = rows_of(prepared("kadid10k"))["I01_01_01.png"]
    assert row["image"].endswith("IMAGES/i01_01_01.PNG") and row["content"] == "I01"


def test_missing_and_unreadable_pictures(prepared, tmp_path):
    prepared("live", check_images=False)
    folder = tmp_path / "live" / "databaserelease2"
    (folder / "wn" / "img1.bmp").unlink()
    (folder / "gblur" / "img2.bmp").write_bytes((folder / "gblur" / "img2.bmp").read_bytes()[:300])
    with pytest.raises(DataSetError, match="is not complete") as refusal:
        prepared("live", allow_partial=False)
    assert "1 of 779 pictures are missing (first: wn/img1.bmp)" in str(refusal.value)
    assert "1 pictures can't be read (first: gblur/img2.bmp; image" in str(refusal.value)
    kept = prepared("live")
    assert len(kept.entries) == 777 and kept.notes[0].startswith("Partial: ")
    assert not {"wn/img1.bmp", "gblur/img2.bmp"} & set(rows_of(kept))


def test_nothing_left_is_refused_even_as_partial(prepared, tmp_path):
    prepared("waterloo")
    for path in (tmp_path / "waterloo" / "pristine_images").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(DataSetError, match="has no picture of Waterloo"):
        prepared("waterloo")


@pytest.mark.parametrize(("score", "says"), [(120, "outside spaq's 0..100"), ("n/a", "is 'n/a', not a number")])
def test_a_score_out_of_range_or_none(prepared, tmp_path, score, says):
    prepared("spaq")
    path = tmp_path / "spaq" / "Annotations" / "MOS and Image attribute scores.xlsx"
    sheet(path, [["Image name", "MOS"], ["00001.jpg", score]])
    with pytest.raises(DataSetError, match=says):
        prepared("spaq")


def test_a_negative_deviation_and_a_doubled_row(tmp_path):
    picture(tmp_path / "images" / "I01_01_01.png")
    header = ["dist_img", "ref_img", "dmos", "var"]
    table(tmp_path / "dmos.csv", header, [["I01_01_01.png", "I01.png", 3, -0.1]])
    with pytest.raises(DataSetError, match="1 deviations in dmos.csv are negative"):
        prepare("kadid10k", tmp_path, allow_partial=True)
    table(tmp_path / "dmos.csv", header, [["I01_01_01.png", "I01.png", 3, 0.1]] * 2)
    with pytest.raises(DataSetError, match="lists 1 pictures twice"):
        prepare("kadid10k", tmp_path, allow_partial=True)


def test_damaged_workbooks_and_matlab_files(prepared, tmp_path):
    prepared("livec")
    (tmp_path / "livec" / "ChallengeDB_release" / "Data" / "AllMOS_release.mat").write_bytes(b"x" * 200)
    with pytest.raises(DataSetError, match="not a readable MATLAB file"):
        prepared("livec")
    prepared("spaq")
    (tmp_path / "spaq" / "Annotations" / "MOS and Image attribute scores.xlsx").write_bytes(b"x" * 200)
    with pytest.raises(DataSetError, match="is not an Excel workbook"):
        prepared("spaq")


def test_old_workbooks_need_xlrd(prepared, tmp_path, monkeypatch):
    prepared("bid")
    (tmp_path / "bid" / "DatabaseGrades.xlsx").rename(tmp_path / "bid" / "DatabaseGrades.xls")
    monkeypatch.setitem(__import__("sys").modules, "xlrd", None)
    with pytest.raises(DataSetError, match=r"needs xlrd \(pip install xlrd\); or save it as .xlsx"):
        prepared("bid")


def test_what_a_data_set_does_not_have(prepared):
    for options, says in (
        ({"labels": "raw"}, "spaq has no labels 'raw'; choose one of: mos"),
        ({"split": "official"}, "spaq has no official split; use --split random"),
        ({"split": "offical"}, "did you mean 'official'"),
        ({"part": "test"}, "spaq has no test part in this split; it has no split"),
        ({"normalise": "zscore"}, "Unknown normalisation 'zscore'"),
        ({"split": "random", "split_index": 10}, "no split 10"),
    ):
        with pytest.raises(DataSetError, match=says):
            prepared("spaq", **options)
    with pytest.raises(DataSetError, match="did you mean 'kadid10k'"):
        prepare("kadid10", Path("/"))
