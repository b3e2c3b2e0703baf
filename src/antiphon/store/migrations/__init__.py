"""The steps from any older schema to today's, run by Alembic when a store is opened. Imports nothing, so that
a database already at ``HEAD`` costs no import of Alembic or SQLAlchemy.
"""

HEAD = "0012"
"""The newest revision. Revisions are numbered; a number not known here is a newer Antiphon's."""
