"""The store: a file exists whole or not at all, a changed byte is found, nothing stored is ever evaluated.

The only room that writes HDF5; the files that users bring are read by ``trak_cli.given``.
"""

from trak_cli.store.dtypes import FEATURE_DTYPES, MAX_UNDERFLOW, encode_features, underflows
from trak_cli.store.failures import DamagedError, ForeignError, MissingError
from trak_cli.store.fingerprint import differences, digest, problems_between, require_same
from trak_cli.store.header import FORMAT_VERSION, Header, read_header, verify
from trak_cli.store.image import Image, build_image, decode_features, read_image
from trak_cli.store.layout import Layout, check_name
from trak_cli.store.leftovers import sweep
from trak_cli.store.promote import STEPS, remove, replace, set_aside, write_once
from trak_cli.store.publish import is_stored, write_image
from trak_cli.store.records import read_json, replace_json, write_json_once
from trak_cli.store.shards import (
    Condition,
    FeatureRows,
    FeatureShard,
    State,
    inspect_features,
    read_features,
    write_features,
)
from trak_cli.store.tiling import Source
from trak_cli.store.virtual import (
    WholeScores,
    assemble,
    is_assembled,
    open_scores,
    read_fingerprint,
    read_scores,
    score_blocks,
)

__all__ = [
    "FEATURE_DTYPES",
    "FORMAT_VERSION",
    "MAX_UNDERFLOW",
    "STEPS",
    "Condition",
    "DamagedError",
    "FeatureRows",
    "FeatureShard",
    "ForeignError",
    "Header",
    "Image",
    "Layout",
    "MissingError",
    "Source",
    "State",
    "WholeScores",
    "assemble",
    "build_image",
    "check_name",
    "decode_features",
    "differences",
    "digest",
    "encode_features",
    "inspect_features",
    "is_assembled",
    "is_stored",
    "open_scores",
    "problems_between",
    "read_features",
    "read_fingerprint",
    "read_header",
    "read_image",
    "read_json",
    "read_scores",
    "remove",
    "replace",
    "replace_json",
    "require_same",
    "score_blocks",
    "set_aside",
    "sweep",
    "underflows",
    "verify",
    "write_features",
    "write_image",
    "write_json_once",
    "write_once",
]
