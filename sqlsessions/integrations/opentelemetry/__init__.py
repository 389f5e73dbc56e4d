"""OpenTelemetry: spans and metrics of a storage.

`instrument` puts a layer over a storage; without it, nothing is measured. Names follow the semantic
conventions for database clients (https://opentelemetry.io/docs/specs/semconv/database/) where there are
any; the others begin with ``sqlsessions.``. No span and no metric holds a session id, a key, a subject or
data.
"""

from .storage import InstrumentedStorage, instrument

__all__ = ["InstrumentedStorage", "instrument"]
