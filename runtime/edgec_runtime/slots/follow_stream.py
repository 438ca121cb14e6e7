"""A stream of a model that follows its app: each stretch between two resets is one version's."""

from __future__ import annotations

from edgec_runtime.engines import native
from edgec_runtime.stream import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from edgec_runtime.model import Arrays
    from edgec_runtime.slots.follow import Followed


class FollowedStream(Stream):
    """`Stream`, with the version that was current when it began, or at its last `reset`.

    What a version keeps as its state means nothing to another one, so an update waits for a reset; until then the old
    version stays in memory. A stream that never ends looks at `outdated` where a fresh start does no harm (in silence,
    say), and resets itself.
    """

    def __init__(
        self, owner: Followed, state: Mapping[str, str] | None, initial: Mapping[str, Any] | None = None
    ) -> None:
        self._owner = owner
        super().__init__(owner.current, state, initial)

    def run(self, feeds: Mapping[str, Any]) -> Arrays:
        """`Stream.run`. Raises UsageError where the model that it is of is closed."""
        self._owner.due()
        if self._owner.closed:
            native.closed()
        return super().run(feeds)

    @property
    def outdated(self) -> bool:
        """Whether calls go to another version by now, which `reset` would take."""
        return self._model is not self._owner.current

    @property
    def info(self) -> dict[str, Any]:
        """`Model.info` of the version that this stream is of."""
        return self._model.info

    def _renew(self) -> None:
        self._model = self._owner.current
