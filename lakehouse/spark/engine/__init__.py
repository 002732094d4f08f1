"""Keeps a local JVM with a Spark for the commands that follow: a warm engine.

An engine is a JVM and its keeper, a small process that starts it and outlives the command. One command at a time leases
an engine; the next one finds the JVM started and its code compiled. The steps of a command:

1. command.py      `command`: allows the process to use an engine, and gives it back with the exit code
2. key.py          the settings that a JVM cannot change later; an engine serves commands with an equal key only
3. lease.py        `acquire`: a free engine of the key, or a new one, within the limits
4. connection.py   connects Python to the JVM, as a session of its own, and clears the remains of the last command
5. keeper.py       the keeper: starts the JVM, and ends it if its command was killed or nobody needs it
   files.py        the files by which commands and keepers know each other
   overview.py     `lakehouse engine status` and `stop`

The rule for writes of a killed command: its engine is killed, never reused. The lock of a lake contains the process id
of the JVM (storage/lock.py), so the next run waits for the end of that JVM as it does without an engine.

Nothing here imports pyspark, except connection.py when it is used.
"""
