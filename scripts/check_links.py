"""Checks the internal links of a built book and of Markdown files outside it.

Usage: check_links.py BOOK_FOLDER [FILE.md ...]
Every page of the book must be in its table of contents; every relative link must lead to an existing file, and its fragment to an
element with that id (for Markdown files: to a heading). Prints each broken link and exits with 1 if there is one.
"""

import pathlib
import re
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The ids and links of an HTML page."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.update(attributes[key] for key in ("id", "name") if attributes.get(key))
        link = attributes.get("src" if tag in ("img", "script") else "href")
        if link:
            self.links.append(link)


def is_internal(link):
    parts = urlsplit(link)
    return not parts.scheme and not parts.netloc


def heading_ids(text):
    """Returns the ids that GitHub gives to the headings of a Markdown text."""
    headings = re.findall(r"^#+ +(.*?)\s*$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).lower()).replace(" ", "-") for heading in headings}


def broken_in_book(folder):
    pages = {path: Page(path) for path in sorted(folder.rglob("*.html"))}
    for path, page in pages.items():
        if path.name in ("404.html", "print.html", "toc.html"):
            continue
        for link in filter(is_internal, page.links):
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                yield f"{path.relative_to(folder)}: {link} leads to no file"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                yield f"{path.relative_to(folder)}: {link} leads to no heading"


def broken_in_markdown(path):
    text = re.sub(r"<!--.*?-->", "", path.read_text(encoding="utf-8"), flags=re.S)
    for link in filter(is_internal, re.findall(r"\]\(([^)\s]+)\)", text)):
        parts = urlsplit(link)
        target = path.parent / parts.path if parts.path else path
        if not target.exists():
            yield f"{path}: {link} leads to no file"
        elif parts.fragment and target.suffix == ".md" and parts.fragment not in heading_ids(target.read_text(encoding="utf-8")):
            yield f"{path}: {link} leads to no heading"


def main():
    book, *files = map(pathlib.Path, sys.argv[1:])
    sources = {path.name for path in pathlib.Path("docs").glob("*.md")} - {"SUMMARY.md"}
    listed = set(re.findall(r"\]\(([^)]+\.md)\)", pathlib.Path("docs/SUMMARY.md").read_text(encoding="utf-8")))
    broken = [f"docs/{name} is not in docs/SUMMARY.md" for name in sorted(sources - listed)]
    broken += broken_in_book(book.resolve())
    broken += [line for path in files for line in broken_in_markdown(path)]
    for line in broken:
        print(line)
    print(f"{len(broken)} broken links")
    sys.exit(1 if broken else 0)


main()
