"""What a database is asked about itself, for `sqlsessions doctor` and `sqlsessions stats`."""

from __future__ import annotations

from ..dialects.base import Dialect
from ..dialects.mysql import MySQL
from ..dialects.postgresql import PostgreSQL
from ..dialects.sqlite import SQLite
from .base import Diagnosis
from .mysql import MySQLDiagnosis
from .postgresql import PostgreSQLDiagnosis
from .sqlite import SQLiteDiagnosis

_DIAGNOSES: dict[type[Dialect], Diagnosis] = {
    PostgreSQL: PostgreSQLDiagnosis(),
    SQLite: SQLiteDiagnosis(),
    MySQL: MySQLDiagnosis(),
}


def diagnosis_of(dialect: Dialect) -> Diagnosis:
    """The questions for a kind of database."""
    return _DIAGNOSES[type(dialect)]
