"""How a caller's going is told."""

from __future__ import annotations

from activities.ports import Cancellation


def test_hooks_are_called_once_when_the_caller_goes():
    cancellation, called = Cancellation(), list[str]()
    cancellation.on_cancel(lambda: called.append("first"))
    cancellation.on_cancel(lambda: called.append("second"))
    before = cancellation.happened
    cancellation.cancel()
    cancellation.cancel()
    assert (before, cancellation.happened) == (False, True)
    assert called == ["first", "second"]


def test_a_hook_that_comes_too_late_is_called_at_once():
    cancellation, called = Cancellation(), list[str]()
    cancellation.cancel()
    cancellation.on_cancel(lambda: called.append("late"))
    assert called == ["late"]


def test_a_hook_that_was_taken_back_is_not_called():
    cancellation, called = Cancellation(), list[str]()
    cancellation.on_cancel(called.clear)
    hook = lambda: called.append("never")
    cancellation.on_cancel(hook)
    cancellation.forget(hook)
    cancellation.forget(hook)
    cancellation.cancel()
    assert called == []
