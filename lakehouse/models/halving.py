"""Finds the members of a group that make an operation fail, by trying the halves of the group again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

_SAMPLE = 22  # members that are tried by themselves, to see whether any passes


@dataclass
class Halving:
    """The search for members that fail by themselves.

    Attributes:
        fails: Whether the operation fails for the members of a range of positions (the second is excluded).
        may_continue: Whether there is time for another attempt.
        limit: How many members to find.
        found: The positions of members that fail by themselves.
        has_passing: Whether the operation did not fail for some members.
    """

    fails: Callable[[int, int], bool]
    may_continue: Callable[[], bool] = lambda: True
    limit: int = 3
    found: list[int] = field(default_factory=list)
    has_passing: bool = False

    def search(self, start: int, end: int) -> None:
        """Search a range of positions for which the operation fails as a whole.

        If both halves of a range pass, only several members together fail: none of them is found.

        Args:
            start: The first position.
            end: The position after the last one.
        """
        self._search(start, end)
        # The search may end before it sees a part that passes: the first ones may have enough members that fail.
        for at in range(start, end, -(-(end - start) // _SAMPLE)):
            if self.has_passing or not self.may_continue():
                return
            self.has_passing = at not in self.found and not self.fails(at, at + 1)

    def _search(self, start: int, end: int) -> None:
        if end - start == 1:
            self.found.append(start)
            return
        middle = (start + end) // 2
        for half in ((start, middle), (middle, end)):
            if len(self.found) >= self.limit or not self.may_continue():
                return
            if self.fails(*half):
                self._search(*half)
            else:
                self.has_passing = True
