"""The open contexts of a vision tower: which of them a call belongs to, and whose turn it is.

Hooks are set on a module that all threads share, so each call of a tower is matched to its context: by the grids that
it is given, and where those are ambiguous, by the context that is open. Calls outside any context are left alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch

from ..errors import PixelPruneError
from .batch import VALUES

Answer = Callable[..., Any]


@dataclass(eq=False)
class Call:
    """One open context: the grids that its tower is called with, and the hook or methods that answer."""

    shown: dict[str, torch.Tensor]
    hook: Answer | None = None
    methods: dict[tuple[Any, str], Answer] = field(default_factory=dict)
    thread: int = field(default_factory=threading.get_ident)

    def has(self, grids: torch.Tensor | None) -> bool:
        """Return whether these are the call's own tensors, not others with equal values."""
        return grids is not None and any(is_same(grids, own) for own in self.shown.values())

    def is_stranger(self, grids: Sequence[torch.Tensor | None]) -> bool:
        """Return whether a call with these grids comes from another thread and has no grid in common."""
        if threading.get_ident() == self.thread:
            return False
        own = {tuple(row) for shown in self.shown.values() for row in shown.tolist()}
        given = [tuple(row) for one in grids if one is not None for row in one.tolist()]
        return own.isdisjoint(given)


def is_same(grids: torch.Tensor, own: torch.Tensor) -> bool:
    """Return whether two tensors share their memory, as views and the tensor itself do."""
    return grids.shape == own.shape and grids.data_ptr() == own.data_ptr()


class _Desk:
    """The open contexts of a tower: of one thread at a time, the innermost first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.thread: int | None = None
        self.calls: list[Call] = []
        self.hung = ExitStack()

    @contextmanager
    def helping(self, tower: Any, call: Call) -> Iterator[None]:
        """Wait for other threads, then set the hooks for ``call``."""
        if self.thread != call.thread:
            self.lock.acquire()
            self.thread = call.thread
        self.calls.append(call)
        try:
            if len(self.calls) == 1:
                self._hang_up(tower, call)
            yield
        finally:
            self.calls.remove(call)
            if not self.calls:
                self.hung.close()
                self.thread = None
                self.lock.release()

    def _hang_up(self, tower: Any, call: Call) -> None:
        if call.hook is not None:
            # A plain function, because a bound method would be copied with the model, and its lock can't be.
            handle = tower.register_forward_pre_hook(lambda *given: self._hook(*given), with_kwargs=True)
            self.hung.callback(handle.remove)
        for module, name in call.methods:
            self.hung.enter_context(_attribute(module, name, self._method(module, name)))

    def _hook(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Any:
        if kwargs is None or "position_ids" in kwargs:
            return None  # torch is removing the hook in another thread; or the call has positions already
        call = self._choose([kwargs["grid_thw"] if "grid_thw" in kwargs else args[1]])
        return None if call is None or call.hook is None else call.hook(args, kwargs)

    def _method(self, module: Any, name: str) -> Answer:
        stock = getattr(module, name)

        def method(*args: Any, **kwargs: Any) -> Any:
            given = [*args, *(kwargs.get(f"{kind}_grid_thw") for kind in VALUES)]
            call = self._choose([one for one in given if isinstance(one, torch.Tensor) and one.shape[-1:] == (3,)])
            return (stock if call is None else call.methods[module, name])(*args, **kwargs)

        return method

    def _choose(self, grids: Sequence[torch.Tensor | None]) -> Call | None:
        """Return the context that a call with these grids belongs to; None if there is none."""
        calls = list(self.calls)
        for call in reversed(calls):
            if any(call.has(one) for one in grids):
                return call
        return None if not calls or calls[-1].is_stranger(grids) else calls[-1]


_DESKS: WeakKeyDictionary[Any, _Desk] = WeakKeyDictionary()
_DESKS_LOCK = threading.Lock()


def desk_of(tower: Any) -> _Desk:
    """Return the desk of a tower, the same one for all threads."""
    with _DESKS_LOCK:
        return _DESKS.setdefault(tower, _Desk())


@contextmanager
def _attribute(module: Any, name: str, value: Any) -> Iterator[None]:
    """Override a method on one instance."""
    if name in vars(module):
        raise PixelPruneError(f"{type(module).__name__}.{name} is already replaced; expected the class's own method")
    setattr(module, name, value)
    try:
        yield
    finally:
        delattr(module, name)
