"""${message}."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}

# MySQL commits every statement by itself: an upgrade that was cut off must be able to run again. Import
# nothing of sqlsessions here, since it changes and this file does not.


def upgrade() -> None:
    """Describe it here."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Describe it here."""
    ${downgrades if downgrades else "pass"}
