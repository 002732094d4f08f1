"""Breaks commands off at every failpoint, and compares the lake that the next run makes with an unbroken one's.

    scenarios.py   projects that are ready for a command: snapshots in the lake, and news in the source
    state.py       what a lake has, in a form that two lakes can be compared by
    cases.py       the places at which an unbroken command passes, and a choice of them
    warm.py        breaks a command off in this process, whose JVM goes on
    kills.py       kills a process, its JVM or both
    points.py      the points that need a server
    full_disk.py   runs a command on a disk that becomes full
    session.py     the session of this process
    report.py      docs/evidence/crash.md

`make crash` runs all of it in two processes; `make crash POINT=...` one case, SEED= another choice.
"""
