"""Command line of the scripts that make golden files: writes the files, or makes them again in another folder and compares the two."""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file


def differences(made: Path, committed: Path) -> list:
    """Lists the differences between two folders. Tensors may differ by 1e-5 of their norm; other files must be identical."""
    found = []
    files = {path.relative_to(root) for root in (made, committed) for path in root.rglob("*") if path.is_file()}
    for file in sorted(files):
        ours, theirs = made / file, committed / file
        if not ours.exists() or not theirs.exists():
            found.append(f"{file} is {'committed but no longer made' if theirs.exists() else 'made but not committed'}")
        elif file.suffix == ".safetensors":
            a, b = load_file(ours), load_file(theirs)
            if a.keys() != b.keys():
                found.append(f"{file} has tensors with different names")
                continue
            if any(a[key].shape != b[key].shape for key in b):
                found.append(f"{file} has tensors with different shapes")
                continue
            worst = max(float((a[key] - b[key]).norm() / b[key].norm()) for key in b)
            if not worst <= 1e-5:
                found.append(f"{file}: a tensor differs by {worst:.1e} of its norm")
        elif file.name == "scores.json":
            pairs = zip(json.loads(ours.read_text()), json.loads(theirs.read_text()), strict=True)
            worst = max(abs(x - y) for a, b in pairs for key in b for x, y in zip(a[key], b[key], strict=True))
            if not worst <= 1e-5:
                found.append(f"{file} differs by {worst:.1e}")
        elif ours.read_bytes() != theirs.read_bytes():
            found.append(f"{file} differs")
    return found


def run(description: str, make, committed: Path) -> int:
    """Runs the command line of a script whose `make(folder)` writes all files of the folder `committed`; returns the exit code."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed files instead of writing them")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / committed.name
        make(made)
        if args.check:
            found = differences(made, committed)
            print("\n".join(found) or f"torch {torch.__version__} makes the same golden files")
            return 1 if found else 0
        shutil.rmtree(committed, ignore_errors=True)
        shutil.copytree(made, committed)
    print(f"wrote {committed}")
    return 0
