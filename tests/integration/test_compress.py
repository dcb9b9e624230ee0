"""``trak compress``, and the candidates that it gives to ``trak ask``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_ask import loaded, samples_of_the_split
from tiny_project import ROWS, TARGETS, Project

from trak_cli.attribution.topk import TopBottom
from trak_cli.results.new_scores import NewScores, open_new, score_new
from trak_cli.store.container import read_image
from trak_cli.store.layout import Layout
from trak_cli.store.publish import write_image
from trak_cli.types import Float32, Silent

ROW = ("--row", "1,2,3,4,5,6,7,8", "--label", "1")
PARTS = ("worker.part_rows=32",)


def found(project: Project, k: int, candidates: int | None, *overrides: str) -> NewScores:
    with project.monkeypatch.context() as context:
        context.chdir(project.folder)
        return score_new(loaded(project, *overrides), Silent(), samples_of_the_split(project), k, candidates=candidates)


def all_scores(project: Project, *overrides: str) -> Float32:
    with project.monkeypatch.context() as context:
        context.chdir(project.folder)
        new = open_new(loaded(project, *overrides), Silent(), samples_of_the_split(project))
        return np.concatenate([scores for _, scores in new.scores(None, Silent())], axis=1)


def same(one: TopBottom, other: TopBottom) -> bool:
    pairs = zip(one.arrays().items(), other.arrays().items(), strict=True)
    return all(name == twin and np.array_equal(array, copy) for (name, array), (twin, copy) in pairs)


ESTIMATORS = ["early_training", "trak", "trak_soft", "cosine", "dot", "balanced"]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_rows_that_are_found_have_the_scores_of_the_full_pass(finalized: Project, estimator: str) -> None:
    chosen = [f"estimator={estimator}"]
    finalized.done("finalize", *chosen)
    finalized.done("compress", *chosen, *PARTS)
    expected = all_scores(finalized, *chosen)
    few = found(finalized, 3, 6, *chosen)
    for end in (few.extremes.top, few.extremes.bottom):
        wanted = np.take_along_axis(expected, end.indices, 1)
        np.testing.assert_allclose(end.values, wanted, rtol=2e-5, atol=2e-5 * np.abs(expected).max())
    assert few.candidates is not None
    assert few.candidates.recall is not None
    assert 2 * 6 <= len(few.candidates.rows) <= ROWS


@pytest.mark.parametrize("choice", ["estimator.averaging=scores", "estimator=cosine", "estimator.checkpoint_counts=[1]"])
def test_as_many_candidates_as_rows_give_the_identical_answer(finalized: Project, choice: str) -> None:
    finalized.done("finalize", choice)
    full = found(finalized, 4, None, choice)
    assert same(found(finalized, 4, ROWS, choice).extremes, full.extremes), "no compressed features are needed"
    finalized.done("compress", choice, *PARTS)
    several = found(finalized, 4, ROWS - 1, choice)
    assert several.extremes.top.indices.tolist() == full.extremes.top.indices.tolist()
    assert several.extremes.bottom.indices.tolist() == full.extremes.bottom.indices.tolist()


@pytest.mark.parametrize("dtype", ["float16", "int8", "bfloat16"])
def test_single_rows_of_every_dtype_are_those_of_the_whole_shard(project: Project, dtype: str) -> None:
    chosen = [f"features.dtype={dtype}"]
    for stage in ("featurize", "finalize", "compress"):
        project.done(stage, *chosen)
    expected, few = all_scores(project, *chosen), found(project, 2, 5, *chosen)
    wanted = np.take_along_axis(expected, few.extremes.top.indices, 1)
    np.testing.assert_allclose(few.extremes.top.values, wanted, rtol=2e-5, atol=2e-5 * np.abs(expected).max())


def test_the_recall_that_is_measured_is_that_of_the_candidates(finalized: Project) -> None:
    summary = json.loads(finalized.done("compress", *PARTS, "--json").stdout)
    assert (summary["parts"], summary["written"], summary["missing"], summary["split"]) == (4, 4, 0, "test")
    measured = {one["candidates"]: one["top_10"] for one in summary["recall"]}
    expected = all_scores(finalized)
    for count in measured:
        few = found(finalized, 10, count)
        top = np.argsort(-expected, axis=1, kind="stable")
        hits = [
            len(set(rows[:10]) & set(few_rows[:10]))
            for rows, few_rows in zip([*top.tolist(), *top[:, ::-1].tolist()], rows_of(few), strict=True)
        ]
        # The rows of all targets together are scored, so that no fewer are found than were measured.
        assert np.mean(hits) / 10 >= measured[count] - 1e-9
    assert measured[30] > measured[10] > 0.3


def rows_of(few: NewScores) -> list[list[int]]:
    return [*few.extremes.top.indices.tolist(), *few.extremes.bottom.indices.tolist()]


def test_the_command_tells_the_recall_on_stderr_and_in_json(finalized: Project) -> None:
    text = finalized.done("compress").stdout
    assert "of the top 10" in text
    asked = finalized.done("ask", *ROW, "-k", "2", "--candidates", "5", "--json", "--report", "page.html")
    answer = json.loads(asked.stdout)
    assert (
        f"{answer['candidates']['recall']:.1%} of the 2 highest and lowest scores of {TARGETS} targets of test" in asked.stderr
    )
    assert 5 <= answer["candidates"]["scored"] <= 10
    page = (finalized.folder / "page.html").read_text()
    assert f"Only {answer['candidates']['scored']} of {ROWS} training samples were scored" in page
    assert json.loads(finalized.done("ask", *ROW, "--json").stdout)["candidates"] is None
    other = finalized.done("ask", *ROW, "estimator=dot", "--candidates", "5")
    assert "not measured for this estimator" in other.stderr


def test_workers_share_the_parts_and_the_last_one_measures_the_recall(finalized: Project) -> None:
    workers = [["worker.count=3", f"worker.index={index}", *PARTS, "--json"] for index in range(3)]
    summaries = [json.loads(finalized.done("compress", *options).stdout) for options in workers]
    assert [summary["missing"] for summary in summaries] == [2, 1, 0]
    assert [bool(summary["recall"]) for summary in summaries] == [False, False, True]
    parts = sorted((finalized.store / "compressed").rglob("*.h5"))
    before = {path: path.read_bytes() for path in parts}
    again = json.loads(finalized.done("compress", *PARTS, "--json").stdout)
    assert again["written"] == 0
    assert again["recall"] == summaries[2]["recall"]
    assert {path: path.read_bytes() for path in parts} == before


def test_submit_counts_the_parts_and_the_recall(finalized: Project) -> None:
    pytest.importorskip("submitit", reason="pip install 'trak-cli[slurm]'")
    asked = ("submit", "--dry-run", "--json", *PARTS, "compress")
    (job,) = json.loads(finalized.done(*asked).stdout)["jobs"]
    assert (job["stage"], job["missing"]) == ("compress", 5)
    finalized.done("compress", *PARTS)
    assert json.loads(finalized.done(*asked).stdout)["complete"] == ["compress"]


CHANGES = {
    "parts of another length": ((), ("worker.part_rows=16",), 9),
    "another estimator": ((), (*PARTS, "estimator=trak"), 1),
    "other settings of the estimator": ((), (*PARTS, "estimator.soft_threshold=0.1"), 1),
    "more training rows": (("featurize", "finalize"), (*PARTS, "dataset.train.rows=80"), 7),
}


@pytest.mark.parametrize("change", CHANGES)
def test_submit_counts_what_compress_would_write(finalized: Project, change: str) -> None:
    pytest.importorskip("submitit", reason="pip install 'trak-cli[slurm]'")
    finalized.done("compress", *PARTS)
    stages, options, missing = CHANGES[change]
    for stage in (*stages, "finalize"):
        finalized.done(stage, *options)
    asked = ("submit", "--dry-run", "--json", *options, "compress")
    (job,) = json.loads(finalized.done(*asked).stdout)["jobs"]
    assert (job["stage"], job["missing"]) == ("compress", missing)
    written = json.loads(finalized.done("compress", *options, "--json").stdout)["written"]
    assert written == missing - 1, "and the recall"
    assert json.loads(finalized.done(*asked).stdout)["complete"] == ["compress"]


def test_submit_counts_a_part_whose_shard_was_written_again(finalized: Project) -> None:
    pytest.importorskip("submitit", reason="pip install 'trak-cli[slurm]'")
    finalized.done("compress", *PARTS)
    image = read_image(finalized.shard(index=3))
    write_image(image.path, image.arrays, image.fingerprint, {"program": "another"}, overwrite=True)
    asked = ("submit", "--dry-run", "--json", *PARTS, "compress")
    assert [job["missing"] for job in json.loads(finalized.done(*asked).stdout)["jobs"]] == [1]
    assert json.loads(finalized.done("compress", *PARTS, "--json").stdout)["written"] == 1
    assert json.loads(finalized.done(*asked).stdout)["complete"] == ["compress"]


def test_status_tells_that_a_copy_is_unfinished(finalized: Project) -> None:
    finalized.done("compress", *PARTS)
    finalized.done("compress", "worker.part_rows=16", "worker.index=0", "worker.count=4")
    assert "under 2 checkpoints, unfinished or of fewer rows: run trak compress\n" in finalized.done("status").stdout
    finalized.done("compress", "worker.part_rows=16")
    assert "compressed features: 8 parts under 2 checkpoints\n" in finalized.done("status").stdout
    finalized.done("featurize", "dataset.train.rows=80")
    told = finalized.done("status", "--verify").stdout
    assert "8 parts under 2 checkpoints, unfinished or of fewer rows: run trak compress\n" in told


def test_candidates_without_compressed_features_are_refused_with_the_command_that_makes_them(finalized: Project) -> None:
    asked = ("ask", *ROW, "--candidates", "5")
    finalized.refused(3, *asked, says=("compressed features of a-", "none", "run trak compress"))
    finalized.refused(2, *asked, "-k", "6", says=("--candidates", "at least 6"))
    finalized.done("compress", *PARTS)
    part = next((finalized.store / "compressed").rglob("00001.h5"))
    part.unlink()
    finalized.refused(3, *asked, says=("1 of 2 parts", "run trak compress"))
    finalized.done("compress", *PARTS)
    assert part.exists()


def test_a_training_set_that_grew_is_compressed_again(finalized: Project) -> None:
    finalized.done("compress", *PARTS)
    for stage in ("featurize", "finalize"):
        finalized.done(stage, "dataset.train.rows=80")
    more = ("dataset.train.rows=80", *PARTS)
    finalized.refused(
        3, "ask", *ROW, "--candidates", "5", *more, says=("fewer rows", "all 80 training rows", "run trak compress")
    )
    assert json.loads(finalized.done("compress", *more, "--json").stdout)["written"] == 6
    finalized.done("ask", *ROW, "--candidates", "5", *more)


def test_a_row_that_changed_after_it_was_compressed_is_refused(finalized: Project) -> None:
    finalized.done("compress")
    answer = json.loads(finalized.done("ask", *ROW, "-k", "1", "--candidates", "1", "--json").stdout)
    row = answer["targets"][0]["helpful"][0]["row"]
    shard = finalized.shard(index=row // 16)
    whole = shard.read_bytes()
    start = whole.index(read_image(shard).arrays["features"][row % 16].tobytes())
    shard.write_bytes(whole[:start] + bytes([whole[start] ^ 1]) + whole[start + 1 :])
    finalized.refused(3, "ask", *ROW, "-k", "1", "--candidates", "1", says=(shard.name, f"training row {row}"))
    shard.write_bytes(whole[:-8])
    finalized.refused(3, "ask", *ROW, "-k", "1", "--candidates", "1", says=(shard.name,))
    image = read_image(finalized.shard(index=(row // 16 + 1) % 4))
    shard.write_bytes(image.path.read_bytes())
    finalized.refused(3, "ask", *ROW, "-k", "1", "--candidates", "1", says=(shard.name, "after trak compress"))


def test_a_shard_that_was_written_again_is_compressed_again(finalized: Project) -> None:
    finalized.done("compress", *PARTS)
    recall = finalized.done("compress", *PARTS, "--json").stdout
    asked = ("ask", *ROW, "-k", "1", "--candidates", "59", "--json")
    image = read_image(finalized.shard(index=3))
    write_image(image.path, image.arrays, image.fingerprint, {"program": "another"}, overwrite=True)
    assert "run trak compress\n" in finalized.refused(3, *asked, says=(image.path.name, "after trak compress"))
    again = json.loads(finalized.done("compress", *PARTS, "--json").stdout)
    assert (again["written"], again["recall"]) == (1, json.loads(recall)["recall"])
    finalized.done(*asked)


def test_a_copy_without_its_target_split_is_refused_before_it_is_written(finalized: Project) -> None:
    path = finalized.shard("test")
    path.unlink()
    finalized.refused(3, "compress", says=(str(path.relative_to(finalized.store)), "run trak featurize"))
    assert not (finalized.store / "compressed").exists()


LIES = {
    "far start": ("shard_starts", lambda array: array + (1 << 40)),
    "negative start": ("shard_starts", lambda array: array - (1 << 40)),
    "few codes": ("codes", lambda array: array[:-1]),
    "no number": ("scales", lambda array: array * np.float32("nan")),
    "wide digests": ("shard_digests", lambda array: np.repeat(array, 2, axis=1)),
    "other dtype": ("row_digests", lambda array: array.astype(np.int32)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_copy_whose_values_lie_is_refused(finalized: Project, lie: str) -> None:
    finalized.done("compress")
    name, change = LIES[lie]
    for path in (finalized.store / "compressed").rglob("00000.h5"):
        rewrite(path, name, change)
    finalized.refused(3, "ask", *ROW, "--candidates", "5", says=(".h5",))


def rewrite(path: Path, name: str, change: object) -> None:
    image = read_image(path)
    arrays = {**image.arrays, name: np.ascontiguousarray(change(image.arrays[name]))}  # type: ignore[operator]
    write_image(path, arrays, image.fingerprint, image.provenance, overwrite=True)


def test_status_lists_the_copy_and_its_damage(finalized: Project) -> None:
    finalized.done("compress", *PARTS)
    assert "compressed features: 4 parts under 2 checkpoints\n" in finalized.done("status").stdout
    recall = finalized.store / "compressed" / "early_training.recall.h5"
    for path in (next((finalized.store / "compressed").rglob("basis.h5")), recall):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    damaged = json.loads(finalized.done("status", "--verify", "--json").stdout)["compressed"]["damaged"]
    assert sorted(Path(path).name for path in damaged) == ["basis.h5", "early_training.recall.h5"]
    finalized.refused(3, "ask", *ROW, "--candidates", "5", says=("basis.h5",))
    assert json.loads(finalized.done("compress", *PARTS, "--json").stdout)["recall"]
    assert " highest and lowest scores" in finalized.done("ask", *ROW, "--candidates", "5").stderr
    recall.write_bytes(recall.read_bytes()[:-1] + b"x")
    assert "run trak compress" in finalized.done("ask", *ROW, "--candidates", "5").stderr


def test_the_copy_can_be_deleted(finalized: Project) -> None:
    expected = json.loads(finalized.done("ask", *ROW, "--json").stdout)
    finalized.done("compress")
    layout = Layout(finalized.store)
    for name in layout.compressed_checkpoints():
        for path in layout.compressed_folder(name).rglob("*.h5"):
            path.unlink()
    assert json.loads(finalized.done("ask", *ROW, "--json").stdout) == expected
