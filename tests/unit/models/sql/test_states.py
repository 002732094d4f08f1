"""A model's SQL for many states at once: which parts get the number of the state, and what is refused."""

from __future__ import annotations

import pytest

from lakehouse.models.sql.states import NoStatesError, with_states


@pytest.mark.parametrize(
    ("sql", "parts"),
    [
        ("SELECT a, SUM(b) AS b FROM t GROUP BY 1", ["t._why_state AS _why_state FROM", "GROUP BY t._why_state, 1"]),
        ("SELECT SUM(b) AS b FROM t", ["GROUP BY t._why_state"]),
        ("SELECT a FROM t GROUP BY ALL", ["GROUP BY ALL"]),
        (
            "SELECT p.day, GROUPING_ID() AS g FROM p GROUP BY GROUPING SETS ((p.day), ())",
            ["GROUP BY p._why_state, GROUPING SETS ((p.day), ())"],
        ),
        ("SELECT DISTINCT s.day FROM t AS s", ["SELECT DISTINCT s.day, s._why_state AS _why_state"]),
        ("SELECT a.x FROM a JOIN b ON a.x = b.x OR b.y", ["ON a._why_state = b._why_state AND (a.x = b.x OR b.y)"]),
        ("SELECT a.x FROM a LEFT ANTI JOIN b ON a.x = b.x", ["LEFT ANTI JOIN b ON a._why_state = b._why_state AND"]),
        ("SELECT a.x FROM a CROSS JOIN b", ["FROM a JOIN b ON a._why_state = b._why_state"]),
        ("SELECT a.x FROM a JOIN b USING (x)", ["USING (x, _why_state)"]),
        ("SELECT `a b`.x FROM t AS `a b`", ["`a b`._why_state AS _why_state"]),
        ("SELECT * FROM a JOIN b ON a.x = b.y", ["SELECT * EXCEPT (a._why_state, b._why_state), a._why_state AS"]),
        ("SELECT a.* FROM a", ["SELECT a.* EXCEPT (_why_state), a._why_state AS"]),
        (
            "SELECT SUM(b) OVER (PARTITION BY c ORDER BY d) AS s, LAG(b) OVER w AS l FROM t WINDOW w AS (ORDER BY d)",
            ["OVER (PARTITION BY t._why_state, c ORDER BY d)", "w AS (PARTITION BY t._why_state ORDER BY d)"],
        ),
        (
            "SELECT SUM(b) OVER () AS s FROM t",
            ["OVER (PARTITION BY t._why_state) AS s, t._why_state AS _why_state FROM t"],
        ),
        (
            "WITH q AS (SELECT MAX(b) AS b FROM t) SELECT q.b FROM q",
            ["FROM t GROUP BY t._why_state)", "SELECT q.b, q._why_state AS _why_state FROM q"],
        ),
        ("SELECT a FROM t UNION ALL SELECT a FROM u", ["t._why_state AS _why_state FROM t UNION ALL"]),
    ],
)
def test_each_part_has_the_state(sql: str, parts: list[str]) -> None:
    found = with_states(sql)
    assert [part for part in parts if part not in found] == [], found
    assert found.count("GROUP BY") == sum(part.count("GROUP BY") for part in parts)


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT a FROM t WHERE a IN (SELECT b FROM u)", "a subquery that is no part of FROM"),
        ("SELECT (SELECT MAX(b) FROM u) AS m FROM t", "a subquery that is no part of FROM"),
        ("SELECT 1 AS a", "a SELECT without FROM"),
        ("SELECT a FROM t ORDER BY a LIMIT 1", "ORDER BY or LIMIT"),
        ("SELECT t.a FROM t FULL JOIN u ON t.a = u.a", "FULL JOIN"),
        ("SELECT t.a FROM t NATURAL JOIN u", "NATURAL JOIN"),
        ("SELECT a FROM t LATERAL VIEW explode(b) x AS c", "LATERAL VIEW"),
    ],
)
def test_what_cannot_be_computed_for_many_states_is_refused(sql: str, reason: str) -> None:
    with pytest.raises(NoStatesError, match=reason):
        with_states(sql)
