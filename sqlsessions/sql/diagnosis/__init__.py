"""Diagnosis of a database, for `sqlsessions doctor` and `sqlsessions stats`."""

from __future__ import annotations

from ..dialects.base import Dialect
from ..dialects.mysql import MySQL
from ..dialects.postgresql import PostgreSQL
from ..dialects.sqlite import SQLite
from .base import Diagnosis
from .mysql import MySQLDiagnosis
from .postgresql import PostgreSQLDiagnosis
from .sqlite import SQLiteDiagnosis

__all__ = ["diagnosis_of"]

_DIAGNOSES: dict[type[Dialect], Diagnosis] = {
    PostgreSQL: PostgreSQLDiagnosis(),
    SQLite: SQLiteDiagnosis(),
    MySQL: MySQLDiagnosis(),
}


def diagnosis_of(dialect: Dialect) -> Diagnosis:
    """The diagnosis for a dialect."""
    return _DIAGNOSES[type(dialect)]
