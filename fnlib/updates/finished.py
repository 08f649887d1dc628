"""Objects that are finished when they are made: an attribute that is set on them later would be read by nobody."""

from __future__ import annotations

from typing import Any


class _Finishing(type):
    """Marks an object as finished when the last of its ``__init__`` methods has run, those of subclasses included."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        vars(made)["_finished"] = True
        return made


class Finished(metaclass=_Finishing):
    """Base of update rules and factories: after ``__init__``, setting or deleting an attribute is an error."""

    def __setattr__(self, name: str, value: Any) -> None:
        if "_finished" in vars(self):
            raise self._refusal(name, value)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if "_finished" in vars(self):
            raise self._refusal(name, None)
        super().__delattr__(name)

    def _refusal(self, name: str, value: Any) -> Exception:
        """Return the error that shows what to write instead."""
        raise NotImplementedError
