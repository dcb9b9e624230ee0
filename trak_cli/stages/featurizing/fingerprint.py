"""The fingerprint of features: what determines their values."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from trak_cli.config.schema import TrakConfig
from trak_cli.config.validate.plugins import target_of
from trak_cli.gradients.contract import as_real
from trak_cli.gradients.curvature.other_classes import CLASSES_VERSION
from trak_cli.gradients.transforms.adam import SCALES_VERSION
from trak_cli.gradients.transforms.token_signs import SIGNS_VERSION
from trak_cli.projection.definition import MATRIX_VERSION
from trak_cli.projection.factored import factor_sizes
from trak_cli.projection.spec import KINDS, ProjectionSpec
from trak_cli.stages.featurizing.setup import FeatureSetup, Matrices
from trak_cli.stages.index.fingerprint_differences import OPTIMIZER_STATE
from trak_cli.stages.inputs.checkpoints import Checkpoint
from trak_cli.store.header import FORMAT_VERSION
from trak_cli.types import Json


def features_fingerprint(config: TrakConfig, setup: FeatureSetup, checkpoint: Checkpoint) -> Json:
    """What determines the features of any sample under one checkpoint.

    Samples are not part of it: their digests are stored next to the features, so that a data set that grows keeps its shards.
    """
    autocast: Json = {"autocast": config.gradients.autocast} if config.gradients.autocast is not None else {}
    versions: Json = {"terms": {"signs": SIGNS_VERSION}, "classes": {"version": CLASSES_VERSION}}
    curvature: Json = {} if setup.curvature is None else {setup.curvature: versions[setup.curvature]}
    shapes = [[name, list(as_real(tensor).shape)] for name, tensor in setup.selected.items()]
    return {
        "kind": "features",
        "format": FORMAT_VERSION,
        "checkpoint": checkpoint.sha256,
        "model": target_of(config.model),
        "task": target_of(config.task),
        "collate": target_of(config.dataset.collate) if config.dataset.collate is not None else None,
        "parameters": {"count": setup.parameters, "tensors": len(shapes), "shapes_sha256": _sha256(shapes)},
        **autocast,
        **curvature,
        **_optimizer(setup, checkpoint),
        "projection": _projection(setup.spec, setup.matrices),
        "dtype": config.features.dtype,
    }


def _optimizer(setup: FeatureSetup, checkpoint: Checkpoint) -> Json:
    """The source of the gradient scales: second moments of training samples, or those of an optimizer state in a file."""
    if not setup.optimizer.scaled:
        return {}
    scales: Json = {"name": "adam", "scales": SCALES_VERSION}
    if not setup.optimizer.states:
        return {"optimizer": scales}
    return {"optimizer": {**scales, "moments": "checkpoint"}, OPTIMIZER_STATE: setup.optimizer.states[checkpoint.path]}


def _projection(spec: ProjectionSpec, matrices: Matrices) -> Json:
    """The random matrix; for kind ``factored`` also its sizes on both sides and the weights that have them."""
    fields = {name: value for name, value in asdict(spec).items() if value is not None}
    described: Json = {"matrix_version": MATRIX_VERSION, **fields}
    version = KINDS[spec.kind].version
    if version is not None:
        described["kind_version"] = version
    if spec.kind == "factored":
        described["factors"] = list(factor_sizes(spec, len(matrices)))
        described["matrices_sha256"] = _sha256([[name, *shape] for name, shape in matrices.items()])
    return described


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
