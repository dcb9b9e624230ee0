"""What finalize says where it has nothing to do."""

from __future__ import annotations

from tiny_project import Project


def test_a_worker_without_a_checkpoint_and_an_estimator_without_gram_matrices(featurized: Project) -> None:
    for worker in range(4):
        told = featurized.done("finalize", f"worker.index={worker}", "worker.count=4").stdout
        assert ("for this worker" in told) == (worker >= 2)
        assert "needs no Gram matrix" not in told
    assert "needs no Gram matrix" in featurized.done("finalize", "estimator=dot").stdout
