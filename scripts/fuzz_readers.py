"""Damaged and lying files for every reader, which may raise user errors only: no crash, no hang, no wrong value.

    python scripts/fuzz_readers.py                       100,000 cases, a few minutes on two cores
    python scripts/fuzz_readers.py --cases 5000 --only "checkpoint .pt"
    python scripts/fuzz_readers.py --only "checkpoint .pt" --keep 17 FOLDER     the damaged file of one case

With --forged, the HDF5 library parses what nobody has checked; where it does not return, the process is killed. The cases are
functions of the seed, the reader and their number. Exits with 1 if there is a fault.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests" / "fuzz"


def main(arguments: list[str] | None = None) -> int:
    sys.path.insert(0, str(TESTS))
    import torch
    from harness import fuzz, in_order, place
    from readers import other_readers
    from stored import forged_readers, store_readers

    from trak_cli.store.safety import visibility

    visibility.PAUSES = ()  # damage lasts: waiting for a file to become whole only takes time
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000, help="of all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="readers whose names match this pattern")
    parser.add_argument("--forged", action="store_true", help="HDF5 files of a store under digests computed again")
    parser.add_argument("--keep", nargs=2, metavar=("CASE", "FOLDER"), help="write the damaged file of one case instead")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    every = forged_readers() if options.forged else [*store_readers(), *other_readers()]
    readers = [reader for reader in every if re.search(options.only, reader.name)]
    if options.keep:
        case, folder = options.keep
        intact = Path(folder) / "intact" / readers[0].file
        intact.parent.mkdir(parents=True)
        readers[0].make(intact)
        print(place(readers[0], Path(folder), int(case), options.seed))
        return 0
    each = options.cases / sum(reader.share for reader in readers)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as work:
        outcomes = in_order(fuzz(reader, Path(work), range(math.ceil(each * reader.share)), options.seed) for reader in readers)
    faults = sum(outcome.faults.total() for outcome in outcomes)
    print(f"{sum(outcome.cases for outcome in outcomes):,} cases of {len(outcomes)} readers: {faults} faults")
    return int(faults > 0)


if __name__ == "__main__":
    raise SystemExit(main())
