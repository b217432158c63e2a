#!/usr/bin/env bash
# Builds the book with mdBook and checks its internal links: each linked file and each linked heading exists. The first run installs mdBook
# outside the checkout. Usage: scripts/check-book.sh
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.5.4
tools=${XDG_CACHE_HOME:-$HOME/.cache}/rlvr/tools
if ! "$tools/bin/mdbook" --version 2>/dev/null | grep -q "v$version$"; then
  cargo install --quiet mdbook --version "$version" --locked --no-default-features --features search --root "$tools"
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$tools/bin/mdbook" build --dest-dir "$folder/book"
python3 scripts/check_links.py "$folder/book" README.md
