"""Confirms the kernels on a GPU (see src/kernels/confirmation.rs) if every correctness check passed on a real GPU.

    python3 scripts/gpu_confirm.py OUT COMMIT PART...

OUT is the results folder of scripts/gpu-check.sh. If every PART passed and no other part failed, writes an entry to OUT/confirmed.toml and adds it
to the user's own file, which `--kernels auto` reads. Otherwise prints the reason and writes nothing. The exit status is 0 in both cases.
"""

import datetime
import json
import os
import pathlib
import sys

FIELDS = ("card", "capability", "driver", "kernels_digest")


def obstacle(machine, outcomes, required):
    """Returns the reason not to confirm the kernels; None if there is none."""
    if failed := [part for part, outcome in outcomes.items() if outcome == "failed"]:
        return f"failed: {', '.join(failed)}"
    if missing := [part for part in required if outcomes.get(part) != "passed"]:
        return f"did not run: {', '.join(missing)}"
    if lacking := [field for field in FIELDS if not machine.get(field)]:
        return f"the benchmark did not report: {', '.join(lacking)}"
    if machine["card"] == "emulated GPU":
        return "the GPU is emulated"
    return None


def entry(machine, commit):
    """Returns the entry as TOML."""
    values = {"card": machine["card"], "capability": machine["capability"], "driver": machine["driver"], "commit": commit}
    values |= {"date": datetime.date.today().isoformat(), "kernels": machine["kernels_digest"]}
    # A JSON string is a valid TOML string.
    return "[[confirmed]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def machine_of(folder):
    """Returns the machine block of the first benchmark report that has one; empty if none does."""
    for name in ("bench.json", "start.json"):
        try:
            return json.loads((folder / name).read_text())["machine"]
        except (OSError, ValueError, KeyError):
            pass
    return {}


def main():
    folder, commit, required = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    rows = [line.split("\t") for line in (folder / "parts.tsv").read_text().splitlines()]
    machine = machine_of(folder)
    if why := obstacle(machine, {row[0]: row[1] for row in rows}, required):
        print(f"The kernels are not confirmed: {why}.")
        return
    text = entry(machine, commit)
    (folder / "confirmed.toml").write_text(text)
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    own = cache / "rlvr" / "confirmed.toml"
    known = own.read_text() if own.exists() else ""
    if text not in known:
        own.parent.mkdir(parents=True, exist_ok=True)
        new = own.with_suffix(".new")
        new.write_text(known + text)
        new.rename(own)
    print(f"The kernels are confirmed on the {machine['card']}: `--kernels auto` uses them here ({own}).")
    print(f"To confirm this GPU for everyone, append {folder / 'confirmed.toml'} to src/kernels/confirmed.toml and commit it.")


if __name__ == "__main__":
    main()
