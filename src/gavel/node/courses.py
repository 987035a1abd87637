"""How cleanup stands on the volume of a node, in a file of its directory: each node looks after its own volume.

upkeep.json    by task: when it is due (microseconds since 1970), where it goes on, what the last run came to
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from gavel.errors import Damaged
from gavel.node.tokens import write_private
from gavel.upkeep.cleanup import Course


class CourseFile:
    """See runtime.cleanup.Courses."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, Course]:
        """By the task's name; nothing where no task has run yet. Raises Damaged."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return {
                name: Course(int(one["next"]), bytes.fromhex(one["cursor"]), str(one["note"]))
                for name, one in found.items()
            }
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise Damaged(str(self._path), 0, "how cleanup stands; delete it, and all tasks are due", problem) from None

    def note(self, name: str, one: Course) -> None:
        """Durable when it returns; raises OSError, Damaged."""
        found = {**self.read(), name: one}
        rows = {name: {**msgspec.structs.asdict(one), "cursor": one.cursor.hex()} for name, one in found.items()}
        write_private(self._path, json.dumps(rows, indent=1).encode())
