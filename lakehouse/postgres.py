"""What every connection to PostgreSQL has."""

from __future__ import annotations

import re

CONNECTION_DEFAULTS = {
    **{"application_name": "lakehouse", "client_encoding": "UTF8", "connect_timeout": "30"},
    # A connection that has died without a word is given up within minutes.
    **{"keepalives_idle": "60", "keepalives_interval": "10", "keepalives_count": "6"},
}


# What a server says before it lets anybody in comes without a code.
LOGIN_FAILURE = re.compile(
    "authentication failed|no password supplied|no pg_hba.conf entry|does not exist|not permitted to log in|"
    "permission denied for database|certificate"
)
