"""Methods in place of a Trainer's own, on the one Trainer that trains sparsely."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from transformers import __version__ as transformers_version

from chts_hf.sparsifier import Sparsifier

if TYPE_CHECKING:
    from transformers import Trainer
    from typing_extensions import Self


class TrainerMethods:
    """Methods that a Trainer has in place of its own.

    The Trainer is referenced weakly, because it refers to this object.

    Attributes:
        replaced: names of the Trainer's methods. The subclass's of the same names, without leading
            underscores, take their place.
        run: gives the sparsifier of the Trainer's model.
    """

    replaced: ClassVar[tuple[str, ...]]

    def __init__(self, trainer: Trainer, run: Callable[[], Sparsifier | None]) -> None:
        self._reference = weakref.ref(trainer)
        self._before = {name: vars(trainer).get(name) for name in self.replaced}
        self.run = run

    @classmethod
    def put_in_place(cls, trainer: Trainer, run: Callable[[], Sparsifier | None]) -> Self:
        """Replace the methods; again for the same Trainer, change whose sparsifier is asked.

        Returns:
            What the methods are of.

        Raises:
            RuntimeError: the Trainer lacks one, so what it does instead would leave out the masks.
        """
        if missing := [n for n in cls.replaced if not callable(getattr(trainer, n, None))]:
            raise RuntimeError(
                f"the Trainer of transformers {transformers_version} has no {missing[0]}, in whose "
                "place chts_hf saves or pushes masks: install the transformers that chts_hf asks "
                "for (pip check names it), or a newer chts_hf"
            )
        before = getattr(getattr(trainer, cls.replaced[0]), "__self__", None)
        if isinstance(before, cls):
            before.run = run
            return before
        methods = cls(trainer, run)
        for name in cls.replaced:
            setattr(trainer, name, getattr(methods, name.lstrip("_")))
        return methods

    @property
    def _trainer(self) -> Trainer:
        trainer = self._reference()
        assert trainer is not None  # its methods were called
        return trainer

    def _own(self, name: str) -> Callable[..., Any]:
        """The method that was replaced: another package's, on this Trainer, or the class's."""
        trainer = self._trainer
        return self._before[name] or partial(getattr(type(trainer), name), trainer)
