"""All sessions in one file: to move them to another database, of any kind.

Nobody is logged out by the move: the ids, known by their SHA-256, versions, times and subjects stay as they
are. An archive holds the sessions' data: it is as confidential as the database.
"""

from .transfer import Exported, Imported, export_sessions, import_sessions

__all__ = ["Exported", "Imported", "export_sessions", "import_sessions"]
