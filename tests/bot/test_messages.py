"""The translation catalogues are what the code and the translations make them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import polib
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def messages(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "messages.py", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def bot(tmp_path) -> Path:
    """A copy of the bot to break."""
    return Path(shutil.copytree(ROOT / "bot", tmp_path / "bot"))


def catalogue(bot: Path) -> polib.POFile:
    return polib.pofile(str(bot / "locale/ru/LC_MESSAGES/django.po"), wrapwidth=100)


def retranslate(bot: Path, text: str, translation: str) -> None:
    changed = catalogue(bot)
    entry = changed.find(text)
    assert entry
    entry.msgstr = translation
    changed.save()


def test_the_committed_catalogues_are_up_to_date():
    checked = messages("--check")
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_new_text_without_translation_is_found(bot):
    (bot / "new.py").write_text('_("a new text")\nngettext("{n} thing", "{n} things", 2)\n')
    checked = messages("--check", "--bot", str(bot))
    assert checked.returncode == 1
    assert "'a new text': has no translation" in checked.stderr
    assert "'{n} thing': has no translation" in checked.stderr


def test_a_placeholder_that_is_not_translated_is_found(bot):
    retranslate(bot, "Today, {day}", "Сегодня")
    assert "'Today, {day}': placeholders differ" in messages("--check", "--bot", str(bot)).stderr


def test_a_stale_compiled_catalogue_is_found_and_made_again(bot):
    retranslate(bot, "last day", "сегодня последний день")
    assert "django.mo: is not what django.po makes it" in messages("--check", "--bot", str(bot)).stderr
    assert messages("--bot", str(bot)).returncode == 0
    assert messages("--check", "--bot", str(bot)).returncode == 0


def test_a_text_that_is_gone_leaves_the_catalogue(bot):
    changed = catalogue(bot)
    changed.append(polib.POEntry(msgid="gone", msgstr="нет"))
    changed.save()
    assert "django.po: is not what the code makes it" in messages("--check", "--bot", str(bot)).stderr
    messages("--bot", str(bot))
    assert catalogue(bot).find("gone") is None


def test_django_speaks_from_the_compiled_catalogue(russian):
    assert russian.say("hello") == "Я понимаю команды. Все они — в /help."
