"""TODO doc."""

from __future__ import annotations

import hashlib
import json

from trak_cli.config.validate.plugins import target_of
from trak_cli.gradients.transforms.adam import SCALES_VERSION
from trak_cli.gradients.transforms.token_signs import SIGNS_VERSION
from trak_cli.projection.definition import MATRIX_VERSION
from trak_cli.projection.factored import factor_sizes
from trak_cli.projection.spec import KINDS, ProjectionSpec
from trak_cli.stages.featurizing.setup import Matrices, Recipe
from trak_cli.stages.inputs.plugins import Checkpoint
from trak_cli.store.header import FORMAT_VERSION
from trak_cli.types import Json


def features_fingerprint(recipe: Recipe, checkpoint: Checkpoint) -> Json:
    """What determines the features of any sample under one checkpoint: among it the digest of its weights.

    The samples are not in it: their own digests are stored beside the features, so a data set that grows keeps its shards.
    """
    config, parameters = recipe.config, recipe.selected
    autocast: Json = {"autocast": config.gradients.autocast} if config.gradients.autocast is not None else {}
    terms: Json = {"terms": {"signs": SIGNS_VERSION}} if recipe.terms else {}
    optimizer: Json = {"optimizer": {"name": "adam", "scales": SCALES_VERSION}} if recipe.scaled else {}
    shapes = [[name, list(tensor.shape)] for name, tensor in parameters.items()]
    return {
        "kind": "features",
        "format": FORMAT_VERSION,
        "checkpoint": checkpoint.sha256,
        "model": target_of(config.model),
        "task": target_of(config.task),
        "collate": target_of(config.dataset.collate) if config.dataset.collate is not None else None,
        "parameters": {
            "count": sum(tensor.numel() for tensor in parameters.values()),
            "tensors": len(shapes),
            "shapes_sha256": _sha256(shapes),
        },
        **autocast,
        **terms,
        **optimizer,
        "projection": _projection(recipe.spec, recipe.matrices),
        "dtype": config.features.dtype,
    }


def _projection(spec: ProjectionSpec, matrices: Matrices) -> Json:
    """The matrix; for kind ``factored`` also the columns on both sides and the weights that have them."""
    named: Json = {
        "matrix_version": MATRIX_VERSION,
        "kind": spec.kind,
        "dim": spec.dim,
        "seed": spec.seed,
        "nonzeros": spec.nonzeros,
    }
    version = KINDS[spec.kind].version
    if version is not None:
        named["kind_version"] = version
    if spec.kind == "factored":
        named["factors"] = list(factor_sizes(spec, len(matrices)))
        named["matrices_sha256"] = _sha256([[name, *shape] for name, shape in matrices.items()])
    return named


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
