"""Makes torchvision importable with a PyTorch build that its compiled operators do not fit: `make setup` runs this file.

Package indexes without CPU builds offer only the torchvision for CUDA builds of PyTorch. With a CPU build its operators are not
loaded, and importing it fails when it refers to them, and so does importing timm. The models and transforms use none of these
operators. Where the import fails, this file is copied into the environment's site-packages; every Python process there then
declares the operators when torchvision is imported. It does nothing where torchvision works or is not installed.
"""

from __future__ import annotations

import importlib.abc
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

#: What torchvision registers shape functions for.
OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[object] = []  # the declarations end with the object


class DeclareOperators(importlib.abc.MetaPathFinder):
    """Declares the operators before the first import of torchvision; finds no module itself."""

    def find_spec(self, fullname: str, *more: object) -> None:  # noqa: ARG002
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            from torch.library import Library

            library = Library("torchvision", "FRAGMENT")
            for operator in OPERATORS:
                library.define(operator)
            _libraries.append(library)


def main() -> None:
    """Copy this file where it is needed."""
    outcome = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, text=True, check=False)
    if "operator torchvision::" in outcome.stderr:
        folder = Path(sysconfig.get_path("purelib"))
        shutil.copy(__file__, folder / "torchvision_operators.py")
        (folder / "torchvision_operators.pth").write_text("import torchvision_operators\n")


if __name__ == "__main__":
    main()
else:
    sys.meta_path.insert(0, DeclareOperators())
