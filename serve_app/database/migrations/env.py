"""Alembic's environment: runs migrations on the connection and transaction of `serve_app.database.migrate`."""

from __future__ import annotations

from alembic import context

from serve_app.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True
)
context.run_migrations()
