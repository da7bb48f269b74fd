"""Compile all kernels into yolotrt's cache (`YOLOTRT_CACHE`), for GPUs of machines that have no compiler.

usage: python scripts/compile_kernels.py COMPUTE_CAPABILITY ...    such as 8.9 9.0; carry the cache's folder over then
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from yolotrt.cuda.compile import cached_path, compiled
from yolotrt.decode.detect_cuda import CANDIDATES, NMS
from yolotrt.errors import YolotrtError
from yolotrt.preprocess.letterbox_cuda import SOURCE as LETTERBOX


def main() -> int:
    capabilities = sys.argv[1:]
    if not capabilities or any(not c.replace(".", "", 1).isdecimal() or "." not in c for c in capabilities):
        sys.stderr.write(__doc__ or "")
        return 2
    try:
        for capability in capabilities:
            for source in (LETTERBOX, CANDIDATES, NMS):
                code = compiled(source, capability)
                sys.stdout.write(f"{cached_path(source, capability)}: {len(code):,} bytes\n")
    except YolotrtError as e:
        sys.stderr.write(f"error: {e}\n")
        return e.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
