"""Call copies of a model on several threads, with the results of one call after the other."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import Any

from torch import nn

from inference.model_state import CallWatch, ModelWatch, PluginWatch, shared_copies

Result = tuple[Any, nn.Module | None]  # of a call, and the copy that made it if the call changed that copy


class ModelCopies:
    """As many copies of a model as threads; false (empty) when calls have to follow each other.

    That is after a call that changed the model or drew random numbers, and for a model that cannot be copied. Every
    copy is as the model was after its first call, so a result is that of calls in turn up to the first change.
    """

    def __init__(self, model: nn.Module, watch: CallWatch, number: int):
        self.watch, self.idle = watch, SimpleQueue[ModelWatch]()
        usable = number > 1 and watch.model.copyable and not watch.changed()
        copies = shared_copies(model, number) if usable else []
        for copied in copies:
            self.idle.put(ModelWatch(copied))
        watch.plugins = PluginWatch()  # the first call may have imported more
        self.has_changed = False  # a thread saw a change: calls that have not begun do not begin
        self.in_turn = not copies

    def __bool__(self) -> bool:
        return not self.in_turn

    def stop(self) -> None:
        """Let all further calls follow each other."""
        self.in_turn = True

    def call(self, function: Callable[[Any, nn.Module], Any], argument: Any) -> Result | None:
        """Return function(argument, copy), and the copy if it has changed; None after a change. Runs on a thread."""
        if self.has_changed:
            return None
        watch = self.idle.get()
        try:
            made = function(argument, watch.model)
        except BaseException:
            self.idle.put(watch)
            raise
        if not watch.changed():
            self.idle.put(watch)
            return made, None
        self.has_changed = True
        return made, watch.model

    def result(self, future: Future[Result | None], later: list[Future[Result | None]]) -> Result:
        """Return the result of a call, and the changed model for the calls after it; (None, None): call it in turn.

        later: the calls after it, which may be running. Raise OptionError if a call changed what copies share.
        """
        if self.in_turn:
            return None, None
        error = future.exception()
        result = None if error else future.result()
        if result is None or result[1] is not None or self.watch.affects_others():
            wait(later)  # so that no thread uses what the calls in turn use
            self.stop()
            if self.watch.undo_draws():
                error, result = None, None
        if error:
            raise error
        return result or (None, None)
