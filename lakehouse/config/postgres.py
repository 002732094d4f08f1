"""Defines the settings of every connection to PostgreSQL, and the messages of a failed login."""

from __future__ import annotations

import re

CONNECTION_DEFAULTS = {
    **{"application_name": "lakehouse", "client_encoding": "UTF8", "connect_timeout": "30"},
    # A connection that broke without notice is closed within minutes.
    **{"keepalives_idle": "60", "keepalives_interval": "10", "keepalives_count": "6"},
}

# PostgreSQL reports errors before the login without an SQLSTATE code.
LOGIN_FAILURE = re.compile(
    "authentication failed|no password supplied|no pg_hba.conf entry|does not exist|not permitted to log in|"
    "permission denied for database|certificate"
)
