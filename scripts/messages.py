#!/usr/bin/env python
"""Makes the bot's translation catalogues again: texts from the code into `django.po`, `django.po` into `django.mo`.

With --check it changes nothing and exits 1 when a catalogue is not what the code and its translation make it:
a text without a translation, a translation without its text, placeholders that differ, a stale `django.mo`.
Needs `polib` and no gettext.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import polib

BOT = Path(__file__).resolve().parent.parent / "bot"
Key = tuple[str, str]
"""A text's context, empty when it has none, and its English."""


def texts_of(folder: Path) -> dict[Key, str]:
    """Every text that the code under `folder` translates, with its English plural, empty when it has none."""
    return {key: plural for path in sorted(folder.rglob("*.py")) for key, plural in _texts_in(path)}


def _texts_in(path: Path) -> Iterator[tuple[Key, str]]:
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    for node in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        if not isinstance(node.func, ast.Name):
            continue
        given = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        match node.func.id, given:
            case (("_" | "gettext" | "gettext_noop"), [text]):
                yield ("", text), ""
            case "pgettext", [context, text]:
                yield (context, text), ""
            case "ngettext", [text, plural]:
                yield ("", text), plural


def updated(catalogue: polib.POFile, texts: dict[Key, str]) -> polib.POFile:
    """The catalogue with exactly these texts, in their order; new ones have no translation yet."""
    known = {_key(entry): entry for entry in catalogue}
    result = polib.POFile(wrapwidth=100)
    result.metadata = catalogue.metadata
    for (context, text), plural in texts.items():
        entry = known.get((context, text))
        if entry is None or (entry.msgid_plural or "") != plural:
            entry = polib.POEntry(msgid=text, msgctxt=context or None, msgid_plural=plural)
            if plural:
                entry.msgstr_plural = dict.fromkeys(range(_forms(catalogue)), "")
        result.append(entry)
    return result


def faults(catalogue: polib.POFile) -> list[str]:
    """What is wrong with the translations, one line for each."""
    return [
        f"{entry.msgid!r}: {fault}"
        for entry in catalogue
        for translation in (entry.msgstr_plural.values() if entry.msgid_plural else [entry.msgstr])
        if (fault := _fault(entry, translation))
    ]


def _fault(entry: polib.POEntry, translation: str) -> str:
    if not translation:
        return "has no translation"
    if _placeholders(translation) != _placeholders(entry.msgid_plural or entry.msgid):
        return f"placeholders differ in {translation!r}"
    return "is fuzzy" if entry.fuzzy else ""


def _placeholders(text: str) -> set[str]:
    return set(re.findall(r"{(\w*)}", text))


def _key(entry: polib.POEntry) -> Key:
    return entry.msgctxt or "", entry.msgid


def _forms(catalogue: polib.POFile) -> int:
    match = re.match(r"nplurals=(\d+)", catalogue.metadata["Plural-Forms"])
    assert match is not None
    return int(match[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when something is to be done")
    parser.add_argument("--bot", type=Path, default=BOT, help="the folder with the code and its locale/")
    options = parser.parse_args()
    texts = texts_of(options.bot)
    wrong: list[str] = []
    for path in sorted(options.bot.glob("locale/*/LC_MESSAGES/django.po")):
        catalogue = updated(polib.pofile(str(path), wrapwidth=100), texts)
        binary = catalogue.to_binary()
        compiled = path.with_suffix(".mo")
        wrong += [f"{path}: {fault}" for fault in faults(catalogue)]
        if options.check:
            if path.read_text("utf-8") != f"{catalogue}":
                wrong.append(f"{path}: is not what the code makes it")
            if not compiled.exists() or compiled.read_bytes() != binary:
                wrong.append(f"{compiled}: is not what {path.name} makes it")
        else:
            path.write_text(f"{catalogue}", "utf-8")
            compiled.write_bytes(binary)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
