"""Archives: all live sessions in one file, to be moved to another database, of any kind.

The move logs nobody out: the ids, known by their SHA-256, versions, times and subjects stay as they are. An
archive holds the sessions' data: it is as confidential as the database.
"""

from .exporting import Exported, export_sessions
from .importing import Imported, import_sessions

__all__ = ["Exported", "Imported", "export_sessions", "import_sessions"]
