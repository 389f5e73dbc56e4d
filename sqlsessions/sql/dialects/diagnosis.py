"""What a database is asked about itself, for `sqlsessions doctor` and `sqlsessions stats`."""

from __future__ import annotations

from .base import Backend
from .diagnosis_base import Diagnosis
from .diagnosis_mysql import MySQLDiagnosis
from .diagnosis_postgresql import PostgreSQLDiagnosis
from .diagnosis_sqlite import SQLiteDiagnosis
from .mysql import MySQL
from .postgresql import PostgreSQL
from .sqlite import SQLite

_DIAGNOSES: dict[type[Backend], Diagnosis] = {
    PostgreSQL: PostgreSQLDiagnosis(),
    SQLite: SQLiteDiagnosis(),
    MySQL: MySQLDiagnosis(),
}


def diagnosis_of(backend: Backend) -> Diagnosis:
    """The questions for a kind of database."""
    return _DIAGNOSES[type(backend)]
