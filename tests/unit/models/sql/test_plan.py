"""Planning a model: its inputs, its keys, its refresh strategy, and what is refused."""

from __future__ import annotations

import pytest
import sqlglot
from sqlglot import exp

from lakehouse.errors import ConfigError
from lakehouse.models.sql.blocks import split_totals
from lakehouse.models.sql.plan import Plan, dependency_levels, plan_model

T = "FROM silver.t AS t"


def plan_sql(sql: str, *keys: str, model: str = "silver.m") -> Plan:
    return plan_model(model, sql, keys, "silver/m.sql")


def refusal(sql: str, *keys: str) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        plan_sql(sql, *keys)
    assert refused.value.where.startswith("silver/m.sql")
    assert "silver.m" in refused.value.found
    return refused.value


# Strategy


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT t.id {T}",
        "SELECT id FROM silver.t",
        f"SELECT t.id, upper(t.name) AS name, CASE WHEN t.v > 0 THEN 1 END AS sign {T} WHERE t.v IS NOT NULL",
        f"SELECT t.id, t.at > :as_of AS late, from_utc_timestamp(t.at, :business_timezone) AS at {T}",
        f"SELECT t.id, transform(t.tags, tag -> upper(tag)) AS tags, size(filter(t.tags, x -> x > 1)) AS n {T}",
        f"SELECT * {T};",
        f"-- GROUP BY\nSELECT t.id, 'JOIN' AS word, t.limit AS `distinct` {T} /* LIMIT 1 */",
    ],
)
def test_projections_and_filters_of_one_table_go_row_by_row(sql: str) -> None:
    found = plan_sql(sql, "id")

    assert found.strategy == "row-wise"
    assert found.reason.startswith("projections and filters of one table")
    assert ("as_of" in found.reason) is (":as_of" in sql)
    assert found.inputs == ["silver.t"]


@pytest.mark.parametrize(
    ("sql", "strategy"),
    [
        (f"SELECT t.id {T} JOIN silver.u AS u ON u.id = t.id", "lookup"),
        (f"SELECT t.id {T} LEFT JOIN silver.u AS u ON u.id <=> t.id CROSS JOIN silver.w AS w", "lookup"),
        (f"SELECT t.id {T} LEFT ANTI JOIN silver.u AS u ON u.id = t.id", "lookup"),
        (f"WITH c AS (SELECT t.id {T}) SELECT c.id FROM c", "lookup"),
        (f"SELECT t.id, count(DISTINCT t.v) AS n {T} GROUP BY t.id HAVING sum(t.v) > 0", "grouped"),
        (f"SELECT t.id, array_sort(collect_set(t.v)) AS vs {T} GROUP BY t.id", "grouped"),
        (f"SELECT t.id, count(*) FILTER (WHERE t.v > 0) AS n {T} GROUP BY t.id", "grouped"),
        (f"SELECT DISTINCT t.id {T}", "grouped"),
        ("SELECT upper(id) AS id, count(*) AS n FROM silver.t GROUP BY upper(id)", "grouped"),
        (f"SELECT t.id, t.a, grouping_id() AS g, max(t.v) AS v {T} GROUP BY t.id, CUBE (t.a)", "grouped"),
        (f"SELECT t.id, rank() OVER (PARTITION BY t.id ORDER BY t.v) AS n {T}", "windowed"),
        (f"WITH w AS (SELECT t.id, sum(t.v) OVER (PARTITION BY t.id) AS v {T}) SELECT w.id FROM w", "windowed"),
        (
            f"WITH d AS (SELECT DISTINCT t.day AS id {T}) SELECT d.id, sum(t.v) AS v FROM d "
            "JOIN silver.t AS t ON t.day BETWEEN date_sub(d.id, 27) AND d.id GROUP BY d.id",
            "windowed",
        ),
    ],
)
def test_joins_groups_and_windows_are_refreshed_incrementally(sql: str, strategy: str) -> None:
    keys = ("id", "a", "g") if "CUBE" in sql else ("id",)

    assert plan_sql(sql, *keys).strategy == strategy


# SQL that needs full refreshes: the clause that prevents incremental ones, and what to write instead.
FULL = [
    ("SELECT t.id FROM silver.t AS t, silver.u AS u", "comma", "CROSS JOIN"),
    (f"SELECT t.id {T} JOIN silver.u AS u", "JOIN without ON", "CROSS JOIN"),
    (f"SELECT t.id {T} JOIN silver.u AS u USING (id)", "USING", "ON"),
    (f"SELECT t.id {T} NATURAL JOIN silver.u AS u", "NATURAL", "ON"),
    (f"SELECT t.id {T} RIGHT JOIN silver.u AS u ON u.id = t.id", "RIGHT JOIN", "LEFT JOIN"),
    (f"SELECT t.id {T} FULL JOIN silver.u AS u ON u.id = t.id", "FULL JOIN", "LEFT JOIN"),
    (f"SELECT t.id {T} JOIN (SELECT u.id FROM silver.u AS u) AS q ON q.id = t.id", "derived table", "CTE"),
    (f"SELECT t.id {T} JOIN silver.t AS T ON true", "two tables of one name", "alias"),
    (f"SELECT t.id {T} ORDER BY t.id LIMIT 3", "LIMIT", "filter by a value"),
    (f"SELECT t.id {T} ORDER BY t.id OFFSET 3", "OFFSET", "filter by a value"),
    (f"SELECT t.id {T} SORT BY t.id", "SORT BY", "leave it out"),
    (f"SELECT t.id, e {T} LATERAL VIEW explode(t.tags) AS e", "LATERAL VIEW", "array"),
    (f"SELECT t.id {T} UNION ALL SELECT t.id {T}", "set operation at the top", "a model for each"),
    (f"SELECT t.id {T} EXCEPT SELECT u.id FROM silver.u AS u", "set operation at the top", "a model for each"),
    (f"WITH c AS (SELECT t.id {T} UNION SELECT t.v {T}) SELECT c.id FROM c", "UNION", "a model for each"),
    (f"WITH c AS (WITH d AS (SELECT t.id {T}) SELECT d.id FROM d) SELECT c.id FROM c", "WITH inside", "side by side"),
    (f"WITH c(id) AS (SELECT t.id {T}) SELECT c.id FROM c", "list of columns", "SELECT"),
    (f"SELECT t.id {T} QUALIFY row_number() OVER (PARTITION BY t.id ORDER BY t.v) = 1", "QUALIFY", "CTE"),
    (f"SELECT t.id, rank() OVER w AS n {T} WINDOW w AS (PARTITION BY t.id ORDER BY t.v)", "WINDOW", "OVER (...)"),
    (f"SELECT t.id, rank() OVER (ORDER BY t.v) AS n {T}", "share no PARTITION BY", "common column"),
    (
        f"SELECT t.id, rank() OVER (PARTITION BY t.id ORDER BY t.v) AS n, "
        f"rank() OVER (PARTITION BY t.v ORDER BY t.id) AS m {T}",
        "share no PARTITION BY",
        "common column",
    ),
    (f"SELECT t.id, rank() OVER (PARTITION BY t.v ORDER BY t.id) AS n {T}", "partitioned", "`keys`"),
    (f"SELECT t.id, row_number() OVER (PARTITION BY t.id ORDER BY t.v) AS n {T}", "rownumber", "ORDER BY"),
    (f"SELECT t.id, sum(t.v) OVER (PARTITION BY t.id ORDER BY t.v ROWS 2 PRECEDING) AS n {T}", "tied", "ORDER BY"),
    (f"SELECT t.id, sum(count(*)) OVER (PARTITION BY t.id) AS n {T} GROUP BY t.id", "over groups", "CTE"),
    (f"SELECT DISTINCT t.id, rank() OVER (PARTITION BY t.id ORDER BY t.v) AS n {T}", "DISTINCT over", "CTE"),
    (f"SELECT t.id {T} WHERE t.id IN (SELECT u.id FROM silver.u AS u)", "a subquery", "LEFT SEMI JOIN"),
    (f"SELECT t.id {T} WHERE EXISTS (SELECT 1 {T})", "a subquery", "LEFT SEMI JOIN"),
    (f"SELECT t.id, (SELECT max(u.v) FROM silver.u AS u) AS v {T}", "a subquery", "LEFT SEMI JOIN"),
    (f"SELECT q.id FROM (SELECT t.id {T}) AS q", "derived table", "CTE"),
    (f"SELECT t.id, explode(t.tags) AS tag {T}", "explode()", "model of its own"),
    (f"SELECT 1 AS id, max(t.v) AS v {T}", "max() without GROUP BY", "GROUPING SETS (())"),
    (f"SELECT t.id, sum(t.v) AS v {T} GROUP BY ALL", "GROUP BY ALL", "name the columns"),
    (f"SELECT t.v AS id, sum(t.w) AS v {T} GROUP BY t.v, t.w", "w", "select it"),
    (f"SELECT upper(t.v) AS id, sum(t.w) AS v {T} GROUP BY id", "GROUP BY id", "write the expression"),
    (f"SELECT t.a AS x, x + 1 AS id {T}", "reads x, a name given", "write the expression out"),
    (f"SELECT t.id, count(*) AS n {T} GROUP BY (t.id)", "GROUP BY (...)", "without parentheses"),
    (f"SELECT t.id, count(*) AS n, sum(t.v) AS n {T} GROUP BY t.id", "two columns named n", "different names"),
    (f"SELECT t.id, count(*) {T} GROUP BY t.id", "count(*) without a name", "AS"),
    (f"SELECT t.id, collect_list(t.v) AS vs {T} GROUP BY t.id", "collect_list()", "array_sort(collect_list(...))"),
    (
        f"SELECT t.id, array_sort(collect_list(t.v), (a, b) -> 0) AS vs {T} GROUP BY t.id",
        "collect_list()",
        "array_sort",
    ),
    (f"SELECT t.id, max_by(t.v, t.w) AS v {T} GROUP BY t.id", "max_by()", "MAX(STRUCT"),
    (f"SELECT t.id, stddev(t.v) AS v {T} GROUP BY t.id", "stddev()", "DECIMAL"),
    (f"SELECT t.id, percentile_cont(0.5) WITHIN GROUP (ORDER BY t.v) AS v {T} GROUP BY t.id", "percentile_cont", "("),
    (f"SELECT t.id, my_own(t.v) AS v {T}", "my_own()", "not known"),
]


@pytest.mark.parametrize(("sql", "clause", "advice"), FULL)
def test_unsupported_sql_is_refreshed_in_full_and_the_reason_names_the_clause_and_an_alternative(
    sql: str, clause: str, advice: str
) -> None:
    found = plan_sql(sql, "id")

    assert (found.strategy, found.blocks) == ("full", ())
    assert clause in found.reason
    assert advice in found.reason[found.reason.index(clause) + len(clause) :]


@pytest.mark.parametrize(
    ("joined", "order", "is_unique"),
    [
        ("JOIN silver.u AS u ON u.id = t.u", "t.id", True),
        ("JOIN silver.u AS u ON u.id = t.u", "u.id", False),
        ("JOIN silver.u AS u ON u.t = t.id", "u.id", True),  # a row of u determines one of t
        ("LEFT JOIN silver.u AS u ON u.t = t.id", "u.id", False),  # several rows of t may have no u
        ("LEFT JOIN silver.u AS u ON u.t = t.id", "u.id, t.id", True),
        ("JOIN silver.u AS u ON u.t <=> t.id", "u.id", False),
        ("LEFT SEMI JOIN silver.u AS u ON u.id = t.v", "t.id", True),
        ("JOIN silver.other AS o ON o.id = t.u", "t.id", False),  # its keys are not known
    ],
)
def test_a_row_number_needs_a_unique_order(joined: str, order: str, is_unique: bool) -> None:
    sql = f"SELECT t.day AS day, row_number() OVER (PARTITION BY t.day ORDER BY {order}) AS n {T} {joined}"
    keys = {"silver.t": ("id",), "silver.u": ("id",)}

    assert (plan_model("silver.m", sql, ("day", "n"), "silver/m.sql", keys).strategy == "windowed") is is_unique


@pytest.mark.parametrize(
    "call", ["last_value(t.v, true)", "FIRST_VALUE(t.v) IGNORE NULLS", "nth_value(t.v, 2)", "last(t.v)"]
)
def test_a_value_by_position_is_accepted_in_a_unique_order(call: str) -> None:
    sql = f"SELECT t.shop AS shop, t.id AS id, {call} OVER (PARTITION BY t.shop ORDER BY t.day, t.id) AS v {T}"

    assert plan_model("silver.m", sql, ("shop", "id"), "m.sql", {"silver.t": ("id",)}).strategy == "windowed"
    assert "uses" in refusal(f"SELECT t.id AS id, first(t.v) AS v {T} GROUP BY t.id").found


def test_the_text_of_a_block_is_the_authors_text() -> None:
    sql = """-- A comment, with FROM and GROUP BY.
    WITH c AS (
        SELECT t.a IS DISTINCT FROM t.b AS x, left(t.name, 2) AS y, t.from, t.`group by` AS z -- the end
        FROM silver.t AS t LEFT JOIN silver.u u ON left(u.id, 1) = t.id AND u.on /* ( */ LEFT SEMI JOIN silver.w AS w
            ON w.id = t.id
        WHERE t.limit > 3 AND t.name <> 'GROUP BY'
    )
    SELECT c.x, c.y, grouping_id() AS g, COUNT(*) AS n
    FROM c GROUP BY GROUPING SETS ((c.x, c.y), (c.x)) HAVING COUNT(*) > 1 ORDER BY c.x;"""
    first, last = plan_sql(sql).blocks

    assert [s.on for s in first.sources] == ["", "left(u.id, 1) = t.id AND u.on", "w.id = t.id"]
    assert [(s.alias, s.relation, s.join_type) for s in first.sources] == [
        ("t", "silver.t", "first"),
        ("u", "silver.u", "left"),
        ("w", "silver.w", "semi"),
    ]
    assert first.select.endswith("t.from, t.`group by` AS z")
    assert (first.where, first.after_where) == ("WHERE t.limit > 3 AND t.name <> 'GROUP BY'", "")
    assert last.where == ""
    assert last.after_where == "GROUP BY GROUPING SETS ((c.x, c.y), (c.x)) HAVING COUNT(*) > 1 ORDER BY c.x"
    assert last.totals == "GROUP BY GROUPING SETS ((c.x, c.y), (c.x))"
    assert [(k.sql, k.output, k.can_push_down) for k in last.refresh_key] == [
        ("c.x", "x", True),
        ("c.y", "y", False),
        ("grouping_id()", "g", False),
    ]


@pytest.mark.parametrize(
    ("on", "conditions"),
    [
        ("t.a = u.b", [("t.a", "=", "u.b", 0)]),
        ("t.a BETWEEN date_sub(u.b, 27) AND u.b", [("t.a", ">=", "u.b", -27), ("t.a", "<=", "u.b", 0)]),
        ("date_add(u.b, 2) > t.a AND (t.c = u.d)", [("u.b", ">=", "t.a", -2), ("t.c", "=", "u.d", 0)]),
        ("t.a <= date_add(u.b, 3 * 7)", []),
        ("t.a <= date_add(u.b, t.c)", []),
        ("t.a = u.b OR t.c = u.d", []),
        ("NOT t.a = u.b", []),
        ("t.a <=> u.b AND t.s.f = u.b AND a = u.b AND t.a = t.b", []),
        ("t.a NOT BETWEEN u.b AND u.d", []),
    ],
)
def test_only_simple_comparisons_of_columns_are_used(on: str, conditions: list[tuple[str, str, str, int]]) -> None:
    (block,) = plan_sql(f"SELECT t.id {T} JOIN silver.u AS u ON {on}", "id").blocks

    found = [(".".join(x.column), x.operator, ".".join(x.other), x.days) for x in block.sources[1].conditions]
    assert found[::2] == conditions  # each is followed by its reverse


@pytest.mark.parametrize(
    ("group_by", "parts"),
    [
        ("t.a, t.b", [("", (0, 1))]),
        ("GROUPING SETS ((t.a, t.b), (t.a))", [("", (0,))]),
        ("t.a, CUBE (t.b)", [("", (0,))]),
        ("GROUPING SETS ((t.a, t.b), (t.a), ())", [("((t.a, t.b), (t.a))", (0,)), ("(())", ())]),
        ("ROLLUP (t.a, t.b)", [("((t.a, t.b), (t.a))", (0,)), ("(())", ())]),
        ("t.a, t.b WITH CUBE", [("((t.a, t.b), (t.a))", (0,)), ("((t.b), ())", ())]),
        ("t.a, t.b GROUPING SETS ((t.a), (t.b))", [("((t.a))", (0,)), ("((t.b))", (1,))]),
        ("GROUPING SETS (t.a, (t.b), ROLLUP (t.a))", [("", ())]),  # nested, so not split
        ("ROLLUP (upper(t.a))", [("", ())]),  # not a column, so no filter before the GROUP BY
    ],
)
def test_totals_are_split_by_the_column_that_most_sets_have(
    group_by: str, parts: list[tuple[str, tuple[int, ...]]]
) -> None:
    a = "upper(t.a)" if "upper" in group_by else "t.a"
    totals = group_by not in ("t.a, t.b",)
    columns = f"{a} AS a, t.b AS b" if "t.b" in group_by else f"{a} AS a"
    gid = ", GROUPING_ID() AS g" if totals else ""
    (block,) = plan_sql(f"SELECT {columns}{gid}, count(*) AS n {T} GROUP BY {group_by} HAVING count(*) > 1").blocks

    texts = [
        f"GROUP BY t.a, t.b GROUPING SETS {sets} HAVING count(*) > 1" if sets else block.after_where
        for sets, _ in parts
    ]
    assert split_totals(block) == [(text, pushdown) for text, (_, pushdown) in zip(texts, parts, strict=True)]


def test_a_cte_that_no_select_reads_is_ignored() -> None:
    sql = f"WITH a AS (SELECT t.id {T}), b AS (SELECT a.id FROM a) SELECT t.id {T}"

    assert [block.name for block in plan_sql(sql, "id").blocks] == [""]
    assert plan_sql(sql, "id").strategy == "row-wise"


@pytest.mark.parametrize(
    "function",
    [
        *("count(*)", "sum(t.v)", "avg(t.v)", "max(t.v)", "max_by(t.v, t.w)", "count_if(t.v > 0)", "median(t.v)"),
        *("bool_or(t.v > 0)", "collect_set(t.v)", "percentile(t.v, 0.5)", "stddev(t.v)", "corr(t.v, t.w)"),
        *("mean(t.v)", "std(t.v)", "try_sum(t.v)", "try_avg(t.v)", "every(t.v > 0)", "some(t.v > 0)", "any(t.v > 0)"),
        *("theta_sketch_agg(t.v)", "bitmap_construct_agg(t.v)"),
    ],
)
def test_an_aggregate_without_group_by_needs_full_refreshes(function: str) -> None:
    found = plan_sql(f"SELECT 1 AS id, {function} AS total {T}", "id")

    assert found.strategy == "full"
    assert f"{function.partition('(')[0]}()" in found.reason


# Keys


@pytest.mark.parametrize(
    ("select", "group_by", "keys"),
    [
        ("t.day AS day, t.shop AS shop", "t.day, t.shop", ("day", "shop")),
        ("t.shop, t.day", "t.day, t.shop", ("shop", "day")),
        ("day, shop", "day, shop", ("day", "shop")),
        ("date_trunc('DAY', t.at) AS day", "date_trunc('DAY', t.at)", ("day",)),
        ("date_trunc('DAY', t.at) AS day", "1", ("day",)),
        ("upper(t.shop) AS s", "1, upper(t.shop)", ("s",)),
        ("t.day, t.shop, GROUPING_ID() AS g", "GROUPING SETS ((t.day, t.shop), (t.day), ())", ("day", "shop", "g")),
        ("t.day, t.shop, grouping_id() AS g", "ROLLUP (t.day, t.shop)", ("day", "shop", "g")),
        ("t.day, t.shop, grouping_id() AS g", "t.day, t.shop WITH ROLLUP", ("day", "shop", "g")),
        ("t.day, t.shop, grouping_id(t.day, t.shop) AS g", "CUBE (t.day, t.shop)", ("day", "shop", "g")),
        ("t.day, t.shop, grouping_id() AS g", "t.day, ROLLUP (t.shop)", ("day", "shop", "g")),
    ],
)
def test_the_keys_are_the_columns_that_the_group_by_makes_unique(
    select: str, group_by: str, keys: tuple[str, ...]
) -> None:
    found = plan_sql(f"SELECT {select}, count(*) AS n {T} GROUP BY {group_by}")

    assert found.keys == keys
    assert found.has_unique_keys


@pytest.mark.parametrize(("one", "other"), [("X''", "X'00'"), ("X''", "''")])
def test_binary_literals_are_told_from_numbers_in_groups(one: str, other: str) -> None:
    """In sqlglot's own dialect a binary literal is a number, and the empty one none at all."""
    sql = f"SELECT coalesce(t.x, {one}) AS a, count(*) AS n {T} GROUP BY coalesce(t.x, {other})"

    assert "no keys" in refusal(sql).found
    assert plan_sql(f"SELECT coalesce(t.x, {one}) AS a, count(*) AS n {T} GROUP BY coalesce(t.x, {one})").keys == ("a",)


def test_configured_keys_override_those_of_the_group_by() -> None:
    sql = f"SELECT t.day AS day, t.shop AS shop, max(t.id) AS id {T} GROUP BY t.day, t.shop"

    assert plan_sql(sql, "id").keys == ("id",)
    assert not plan_sql(sql, "id").has_unique_keys
    assert not plan_sql(sql, "day").has_unique_keys
    assert plan_sql(sql, "shop", "Day", "id").has_unique_keys


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT t.id {T}",
        f"SELECT t.day, count(*) AS n {T} GROUP BY t.day, t.shop",
        f"SELECT count(*) AS n {T}",
        f"SELECT q.day FROM (SELECT t.day, count(*) AS n {T} GROUP BY t.day) AS q",
        f"SELECT t.day, count(*) AS n {T} GROUP BY t.day UNION ALL SELECT t.day, 0 {T}",
    ],
)
def test_a_model_without_keys_is_refused(sql: str) -> None:
    assert "no keys" in refusal(sql).found


def test_group_by_all_is_named_as_the_reason_for_missing_keys() -> None:
    assert refusal(f"SELECT t.day, count(*) AS n {T} GROUP BY ALL").found.endswith("GROUP BY ALL does not name them")


def test_a_name_without_a_layer_is_answered_with_the_layers() -> None:
    refused = refusal("SELECT s.id FROM sales AS s", "id")

    assert refused.expected == "a table (bronze.sales), a model (silver.sales, gold.sales) or a CTE of its own"
    assert "bronze.<name>" in refusal("SELECT s.id FROM raw.sales AS s", "id").expected


@pytest.mark.parametrize("sql", ["SELECT FROM WHERE", "SELECT t.id FROM silver.t AS t WHERE (", "SELECT CAST(a AS) x"])
def test_a_syntax_error_has_the_words_of_the_sql_and_no_objects_of_the_parser(sql: str) -> None:
    found = refusal(sql, "id").found

    assert "cannot be parsed" in found and "Token" not in found
    assert sql != "SELECT FROM WHERE" or found.endswith('Expected table name but got "WHERE" near "WHERE"')


def test_a_key_named_by_its_alias_is_not_certain_to_be_unique() -> None:
    """Only Spark knows whether the table has a column of that name, which it would group by instead."""
    found = plan_sql(f"SELECT date_trunc('DAY', t.at) AS day, count(*) AS n {T} GROUP BY day")

    assert (found.keys, found.has_unique_keys) == (("day",), False)


@pytest.mark.parametrize(
    "sql",
    [
        # Spark groups by the table's column of that name, not by the selected expression.
        f"SELECT upper(t.shop) AS shop, count(*) AS n {T} GROUP BY shop",
        f"SELECT t.shop AS shop, explode(collect_list(t.v)) AS v {T} GROUP BY t.shop",
        f"SELECT t.shop AS shop, GROUPING_ID() AS g, count(*) AS n {T} GROUP BY GROUPING SETS ((t.shop), (t.shop))",
        f"SELECT t.shop AS shop, GROUPING_ID() > 0 AS g, count(*) AS n {T} GROUP BY ROLLUP (t.shop)",
    ],
)
def test_keys_that_may_have_duplicates_are_not_reported_as_unique(sql: str) -> None:
    """It is also correct to refuse such a model; without `has_unique_keys`, a refresh checks for duplicates."""
    try:
        found = plan_sql(sql)
    except ConfigError:
        return
    assert not found.has_unique_keys


@pytest.mark.parametrize("totals", ["GROUPING SETS ((t.a, t.b), ())", "ROLLUP (t.a, t.b)", "CUBE (t.a, t.b)"])
@pytest.mark.parametrize("selected", ["", ", 'grouping_id' AS g", ", GROUPING(t.a) AS g"])
@pytest.mark.parametrize("keys", [(), ("a", "b")])
def test_totals_without_a_grouping_id_are_refused(totals: str, selected: str, keys: tuple[str, ...]) -> None:
    refused = refusal(f"SELECT t.a, t.b{selected}, count(*) AS n {T} GROUP BY {totals}", *keys)

    assert "GROUPING_ID()" in f"{refused.expected} {refused.next_step}"


# Refusals


@pytest.mark.parametrize(
    "word",
    [
        *(
            "now()",
            "NOW ( )",
            "current_timestamp()",
            "current_timestamp",
            "CURRENT_DATE",
            "current_date()",
            "curdate()",
        ),
        *("localtimestamp()", "unix_timestamp()", "rand()", "randn(1)", "random()", "uuid()", "shuffle(array(1, 2))"),
        *("monotonically_increasing_id()", "spark_partition_id()", "input_file_name()", "current_user()", "user()"),
        *("session_user", "any_value(t.v)", "`rand`()", "1 + (rand())", "version()", "input_file_block_start()"),
        *("hll_sketch_agg(t.v)", "kll_sketch_agg_bigint(t.v)", "histogram_numeric(t.v, 3)", "current_path()"),
        *("aes_encrypt(t.v, 'k')", "`AES_ENCRYPT`(t.v, 'k', 'GCM')", "aes_encrypt(t.v, 'k', 'CBC', 'PKCS', '')"),
        *("hex(aes_encrypt(t.v, 'k', t.mode))",),
        *("element_at(t.v, -2147483648)", "try_element_at(t.v, - (2147483648))"),
        *("timestamp'now'", "date 'today'", "CAST('now' AS TIMESTAMP)", "reflect('java.util.UUID', 'randomUUID')"),
    ],
)
def test_functions_of_the_clock_of_chance_or_of_the_reader_are_refused(word: str) -> None:
    refusal(f"SELECT t.id,\n {word} AS v {T}", "id")


@pytest.mark.parametrize(
    "call",
    [
        *("aes_encrypt(t.v, 'k', 'ecb')", "aes_encrypt(t.v, 'k', 'GCM', 'DEFAULT', t.iv)", "theta_sketch_agg(t.v)"),
        *("element_at(t.v, -2147483647)", "try_element_at(t.v, t.iv)", "t.v[-2147483648]", "get(t.v, -2147483648)"),
    ],
)
def test_what_has_one_result_for_the_same_inputs_is_accepted(call: str) -> None:
    plan_sql(f"SELECT t.id, {call} AS v {T} GROUP BY t.id, t.v, t.iv", "id")


def test_a_sample_is_refused() -> None:
    refusal("SELECT id FROM silver.t TABLESAMPLE (10 PERCENT)", "id")


def test_the_error_names_the_function_and_its_line() -> None:
    refused = refusal(f"SELECT t.id,\n  -- rand()\n  Rand() AS v {T}", "id")

    assert "Rand" in refused.found
    assert refused.where == "silver/m.sql:3"
    assert refusal(f"SELECT t.id,\n element_at(t.v,\n -2147483648) AS v {T}", "id").where == "silver/m.sql:3"


def test_the_same_words_in_names_strings_and_comments_are_accepted() -> None:
    sql = f"SELECT t.id, t.now, t.rand AS uuid, 'now()' AS first, `last` AS `rand()` {T} -- current_date"

    assert plan_sql(sql, "id").strategy == "row-wise"


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "-- nothing",
        f"SELECT t.id {T}; SELECT t.id {T}",
        "INSERT INTO silver.t SELECT 1",
        f"CREATE TABLE x AS SELECT t.id {T}",
        "DELETE FROM silver.t",
        "VALUES (1)",
        "SELECT FROM WHERE",
        f"SELECT (t.id {T}",
        f"SELECT 'open {T}",
    ],
)
def test_anything_but_one_select_is_refused(sql: str) -> None:
    assert "one SELECT" in refusal(sql, "id").expected


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("SELECT id FROM clientes", "clientes"),
        ("SELECT id FROM raw.clientes", "raw.clientes"),
        ("SELECT id FROM main.silver.clientes", "main.silver.clientes"),
        (f"SELECT t.id {T} WHERE t.id IN (SELECT id FROM other.x)", "other.x"),
        ("WITH c AS (SELECT id FROM silver.t) SELECT c.id FROM c JOIN d ON d.id = c.id", "d"),
        ("SELECT id FROM range(10) AS r(id)", "range"),
    ],
)
def test_a_relation_that_is_in_no_layer_is_refused_by_name(sql: str, named: str) -> None:
    assert f"reads {named}" in refusal(sql, "id").found.lower()


def test_a_model_that_reads_no_table_is_refused() -> None:
    assert "reads no table" in refusal("SELECT 1 AS id", "id").found


@pytest.mark.parametrize("sql", [f"SELECT t.id, :today AS v {T}", f"SELECT t.id {T} WHERE t.v = ?"])
def test_an_unknown_parameter_is_refused(sql: str) -> None:
    refused = refusal(sql, "id")

    assert ":as_of" in refused.expected
    assert ":business_timezone" in refused.expected


def test_the_plan_lists_the_parameters_used() -> None:
    assert plan_sql(f"SELECT t.id, ':as_of' AS v {T} -- :as_of", "id").parameters == frozenset()
    assert plan_sql(f"SELECT t.id {T} WHERE t.at < :as_of", "id").parameters == {"as_of"}


# Names


def replace_names(sql: str) -> str:
    found = plan_sql(sql, "id")
    return found.sql_with_names({relation: f"<{relation}>" for relation in found.inputs})


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        (f"SELECT t.id {T}", "SELECT t.id FROM <silver.t> AS t"),
        ("SELECT t.id FROM Silver . t t", "SELECT t.id FROM <silver.t> t"),
        ("SELECT t.id FROM `silver`.`t` AS t", "SELECT t.id FROM <silver.t> AS t"),
        (
            "SELECT t.id FROM silver /* a */ . /* b */ t AS t -- silver.t",
            "SELECT t.id FROM <silver.t> AS t -- silver.t",
        ),
        (
            f"SELECT t.id, 'silver.t' AS a, \"silver.t\" AS b, t.silver AS `silver.t` {T}",
            "SELECT t.id, 'silver.t' AS a, \"silver.t\" AS b, t.silver AS `silver.t` FROM <silver.t> AS t",
        ),
        (
            "WITH t AS (SELECT a.id FROM silver.t AS a) SELECT t.id FROM t JOIN bronze.t AS bronze ON bronze.id = t.id",
            "WITH t AS (SELECT a.id FROM <silver.t> AS a) "
            "SELECT t.id FROM t JOIN <bronze.t> AS bronze ON bronze.id = t.id",
        ),
        (
            "SELECT a.id FROM silver.t AS a JOIN silver.t AS b ON a.id = b.up JOIN silver.t_2 AS silver ON TRUE",
            "SELECT a.id FROM <silver.t> AS a JOIN <silver.t> AS b ON a.id = b.up JOIN <silver.t_2> AS silver ON TRUE",
        ),
        (
            f"SELECT t.id, 'São' AS s, (SELECT max(u.v) FROM gold.u AS u) AS v {T}\nWHERE t.name = 'silver.t'",
            "SELECT t.id, 'São' AS s, (SELECT max(u.v) FROM <gold.u> AS u) AS v FROM <silver.t> AS t\n"
            "WHERE t.name = 'silver.t'",
        ),
    ],
)
def test_only_names_of_relations_are_replaced(sql: str, text: str) -> None:
    assert replace_names(sql) == text


@pytest.mark.parametrize("sql", ["SELECT t.id FROM silver.t", "SELECT t.id FROM silver.t WHERE t.v > 0"])
def test_columns_may_be_qualified_with_the_name_of_a_table_without_alias(sql: str) -> None:
    text = plan_sql(sql, "id").sql_with_names({"silver.t": "_view_1"})

    (table,) = sqlglot.parse_one(text, read="spark").find_all(exp.Table)
    assert table.name == "_view_1"
    assert table.alias_or_name == "t"


# Keys of the input


@pytest.mark.parametrize(
    ("select", "keys", "input_keys", "has_keys"),
    [
        ("t.id", ("id",), ("id",), True),
        ("t.id AS key", ("key",), ("id",), True),
        ("t.Id AS KEY", ("key",), ("iD",), True),
        ("t.a, t.b", ("a", "b"), ("b", "a"), True),
        ("t.a, t.b", ("a", "b"), ("a",), True),
        ("t.a, t.b", ("a",), ("a", "b"), False),
        ("upper(t.id) AS id", ("id",), ("id",), False),
        ("t.other AS id", ("id",), ("id",), False),
        ("CAST(t.id AS INT) AS id", ("id",), ("id",), False),
        ("*", ("id",), ("id",), False),  # it has them, but only Spark can know
    ],
)
def test_a_model_has_its_inputs_keys_if_its_own_contain_them_unchanged(
    select: str, keys: tuple[str, ...], input_keys: tuple[str, ...], has_keys: bool
) -> None:
    assert plan_sql(f"SELECT {select} {T}", *keys).has_input_keys(input_keys) is has_keys


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT DISTINCT t.id {T}",
        f"SELECT t.id, explode(t.tags) AS tag {T}",
        f"SELECT t.id, inline_outer(t.lines) {T}",
        "SELECT id, k, v FROM silver.t UNPIVOT (v FOR k IN (a, b))",
        "SELECT s.id AS id FROM silver.t",  # s is a struct; the table's own id is another
    ],
)
def test_a_key_that_several_rows_may_have_is_not_an_input_key(sql: str) -> None:
    assert not plan_sql(sql, "id").has_input_keys(("id",))


def test_the_hash_depends_on_the_text_and_the_keys() -> None:
    plain = plan_sql(f"SELECT t.id, t.v {T}", "id")

    assert plain.sql_hash == plan_sql(f"SELECT t.id, t.v {T}", "id").sql_hash
    assert plain.sql_hash != plan_sql(f"SELECT t.id, t.v  {T}", "id").sql_hash
    assert plain.sql_hash != plan_sql(f"SELECT t.id, t.v {T}", "id", "v").sql_hash


# Order


def chain(**inputs: str) -> dict[str, Plan]:
    """Plans by model; each argument lists the relations that a model reads, such as `a="bronze.x silver.b"`."""
    found = {}
    for name, reads in inputs.items():
        joined = " JOIN ".join(f"{relation} AS r{n} ON TRUE" for n, relation in enumerate(reads.split()))
        found[f"silver.{name}"] = plan_sql(f"SELECT 1 AS id FROM bronze.z AS z JOIN {joined}", "id")
    return found


def test_a_model_comes_after_the_models_that_it_reads() -> None:
    plans = chain(d="silver.b silver.c", c="silver.a", b="silver.a bronze.x", a="bronze.x", e="bronze.y")

    assert dependency_levels(plans) == [["silver.a", "silver.e"], ["silver.b", "silver.c"], ["silver.d"]]


def test_a_model_that_is_not_given_is_ignored() -> None:
    assert dependency_levels(chain(b="silver.a")) == [["silver.b"]]
    assert dependency_levels({}) == []


@pytest.mark.parametrize(
    ("inputs", "circle"),
    [
        ({"a": "silver.a"}, ["silver.a"]),
        ({"a": "silver.b", "b": "silver.a", "c": "bronze.x"}, ["silver.a", "silver.b"]),
        ({"a": "silver.c", "b": "silver.a", "c": "silver.b"}, ["silver.a", "silver.b", "silver.c"]),
    ],
)
def test_models_that_depend_on_each_other_are_refused_by_name(inputs: dict[str, str], circle: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        dependency_levels(chain(**inputs))

    assert "circle" in refused.value.found
    assert [name for name in chain(**inputs) if name in refused.value.found] == circle
