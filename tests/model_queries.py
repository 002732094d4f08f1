"""Queries that Spark accepts and queries that it refuses, over two tables of bronze.

tests/unit holds the resolver to them; tests/spark holds the lists themselves to Spark's analyzer.
"""

from __future__ import annotations

DDL = {
    "t": (
        "id INT, nome STRING, uf STRING, v DECIMAL(9,2), n INT, at TIMESTAMP, seen TIMESTAMP_NTZ, day DATE, "
        "ok BOOLEAN, "
        "s STRUCT<f: INT, g: STRUCT<h: STRING>>, tags ARRAY<STRING>, items ARRAY<STRUCT<sku: STRING, qty: INT>>, "
        "`from` STRING, bin BINARY"
    ),
    "u": "id INT, t_id INT, nome STRING, city STRING, day DATE",
}
KEYS = {"t": ["id"], "u": ["id"]}
OWN_COLUMNS = "_cdc_operation STRING, _cdc_timestamp TIMESTAMP, _cdc_sequence BIGINT"

T, U = "FROM bronze.t AS t", "bronze.u AS u"

# Each selects `id`, which is its key, and leaves nothing open: Spark accepts it, and so must the resolver.
GOOD = [
    f"SELECT t.id {T}",
    "SELECT id FROM bronze.t",
    "SELECT T.ID, Nome FROM bronze.t AS t",
    "SELECT `id`, `t`.`nome`, t.`from` FROM bronze.t AS `t`",
    "SELECT * FROM bronze.u",
    "SELECT t.* FROM bronze.t AS t",
    "SELECT * EXCEPT (bin, seen) FROM bronze.t",
    "SELECT u.* EXCEPT (city), t.uf FROM bronze.u AS u JOIN bronze.t AS t ON u.t_id = t.id",
    f"SELECT t.id, t._cdc_operation, _cdc_timestamp, t._CDC_SEQUENCE {T}",
    # structs, arrays
    f"SELECT t.id, t.s.f, s.g.h, t.S.G.H AS h2 {T}",
    f"SELECT t.id, t.s.* {T}",
    f"SELECT t.id, t.items.sku AS skus, t.items[0].qty AS qty, element_at(t.items, 1).sku AS sku {T}",
    f"SELECT t.id, transform(t.items, i -> i.sku) AS skus, filter(t.tags, x -> x > nome) AS big {T}",
    f"SELECT t.id, aggregate(t.items, 0, (acc, i) -> acc + i.qty, acc -> acc * 2) AS q, exists(t.tags, x -> "
    f"x = uf) AS e {T}",
    f"SELECT t.id, MAX(struct(t.at, t.nome)).nome AS newest {T} GROUP BY t.id",
    f"SELECT t.id, named_struct('a', t.n, 'b', t.nome).b AS b, struct(t.n AS x).x AS x {T}",
    f"SELECT t.id, map('a', t.n)['a'] AS a, map_keys(map('a', t.n)) AS keys {T}",
    # aliases
    f"SELECT t.id AS id, t.n + 1 AS m, m * 2 AS k {T}",
    f"SELECT t.id AS id, upper(nome) AS nome, length(nome) AS size {T}",
    f"SELECT t.id, count(*) AS c {T} GROUP BY t.id HAVING c > 1 ORDER BY c",
    f"SELECT year(t.day) AS id, count(*) AS c {T} GROUP BY 1 ORDER BY 2",
    f"SELECT t.id, t.n {T} ORDER BY t.v, n",
    f"SELECT t.id, t.nome AS other {T} ORDER BY other, at",
    f"SELECT uf AS id, n FROM (SELECT uf, max(n) AS n {T} GROUP BY uf) AS q WHERE n > 0",
    f"SELECT t.id, u.nome AS n2 {T} JOIN {U} ON u.t_id = t.id ORDER BY id",
    f"SELECT t.id, count(*) AS c {T} JOIN {U} ON u.t_id = t.id GROUP BY t.id HAVING id > 0",
    # CTEs, derived tables, subqueries
    f"WITH c AS (SELECT t.id AS id, t.uf AS estado {T}), d AS (SELECT c.estado, c.id FROM c) SELECT d.id, "
    f"d.estado FROM d",
    f"WITH c(id, x) AS (SELECT t.id, t.uf {T}) SELECT id, x FROM c",
    f"WITH c AS (WITH d AS (SELECT id, uf {T}) SELECT id, uf AS x FROM d) SELECT id, x FROM C",
    f"WITH t AS (SELECT id AS id, uf AS novo {T}) SELECT t.id, t.novo FROM t",
    "SELECT q.id, q.x FROM (SELECT t.id, t.uf FROM bronze.t AS t) AS q(id, x)",
    "SELECT id FROM (SELECT id FROM bronze.t)",
    f"SELECT t.id {T} WHERE t.id IN (SELECT u.t_id FROM {U} WHERE u.nome = t.nome)",
    f"SELECT t.id {T} WHERE EXISTS (SELECT 1 FROM {U} WHERE u.t_id = t.id AND city = uf)",
    f"SELECT t.id, (SELECT max(u.city) FROM {U} WHERE u.t_id = t.id) AS city {T}",
    f"SELECT t.id {T} WHERE t.n > (SELECT avg(n) FROM bronze.t AS x WHERE x.uf = t.uf)",
    # joins
    f"SELECT t.id, u.city {T} LEFT JOIN {U} ON u.t_id = t.id AND u.nome <=> t.nome",
    f"SELECT t.id, city {T} JOIN {U} ON t_id = t.id",
    f"SELECT id, t.uf, u.city {T} JOIN {U} USING (id)",
    f"SELECT id, day, city, uf {T} FULL JOIN {U} USING (id, day)",
    f"SELECT t.id {T} LEFT SEMI JOIN {U} ON u.t_id = t.id AND city > uf",
    f"SELECT id, nome {T} LEFT ANTI JOIN {U} ON u.t_id = t.id",
    f"SELECT t.id, u.id AS other {T}, {U} WHERE t.id = u.t_id",
    f"SELECT t.id, x.nome AS z {T} JOIN bronze.t AS x ON x.n = t.id",
    "SELECT t.id, b.city FROM bronze.t t CROSS JOIN (SELECT city FROM bronze.u) b",
    f"SELECT t.id, l.c {T} JOIN LATERAL (SELECT max(u.city) AS c FROM {U} WHERE u.t_id = t.id) AS l",
    f"SELECT t.id, l.c {T}, LATERAL (SELECT t.n + 1 AS c) AS l",
    # generators
    f"SELECT t.id, tag {T} LATERAL VIEW explode(t.tags) AS tag",
    f"SELECT t.id, e.item.sku, e.item.qty AS q {T} LATERAL VIEW OUTER explode(items) e AS item",
    f"SELECT t.id, p, tag, tag2 {T} LATERAL VIEW posexplode(tags) e AS p, tag LATERAL VIEW explode(tags) f AS tag2",
    f"SELECT t.id, col {T} LATERAL VIEW explode(t.tags) e",
    f"SELECT t.id, explode(t.tags) AS tag {T}",
    f"SELECT t.id, posexplode(t.tags) AS (p, tag) {T}",
    f"SELECT t.id, explode(t.tags) {T}",
    f"SELECT t.id, inline(t.items) {T}",
    f"SELECT t.id, stack(2, 1, t.n, 2, t.n) AS (a, b) {T}",
    f"SELECT t.id, x.col {T} CROSS JOIN LATERAL explode(t.tags) AS x",
    "SELECT v.id, v.b FROM VALUES (1, 'a'), (2, 'b') AS v(id, b) JOIN bronze.t AS t ON t.id = v.id",
    # groups
    f"SELECT t.id, t.uf, GROUPING_ID() AS g, sum(t.n) AS n {T} GROUP BY t.id, t.uf GROUPING SETS ((t.id, "
    f"t.uf), (t.id))",
    f"SELECT id, uf, grouping_id() AS g, grouping(uf) AS gu, sum(n) AS n {T} GROUP BY GROUPING SETS ((id, "
    f"uf), (id), ())",
    f"SELECT t.id, t.uf, grouping_id() AS g, count(*) AS c {T} GROUP BY ROLLUP (t.id, t.uf)",
    f"SELECT t.id, t.uf, grouping_id() AS g, count(*) AS c {T} GROUP BY t.id, t.uf WITH CUBE",
    f"SELECT t.id, upper(t.uf) AS u, concat(upper(t.uf), '!') AS v, count(*) AS c {T} GROUP BY t.id, upper(t.uf)",
    f"SELECT t.id, t.s.f AS f, count(*) AS c {T} GROUP BY t.id, t.s",
    f"SELECT t.id, t.id + t.n AS a, count(*) AS c {T} GROUP BY t.id, t.id + t.n",
    f"SELECT T.ID, count(*) AS c, 1 AS one {T} GROUP BY id",
    f"SELECT t.id, sum(n) AS s, sum(sum(n)) OVER (PARTITION BY t.id) AS w {T} GROUP BY t.id",
    f"SELECT id, count(*) AS c {T} GROUP BY ALL",
    f"SELECT max(id) AS id, count(*) AS c, 7 AS k {T}",
    f"SELECT t.id, count(DISTINCT t.nome, t.uf) AS c, count(*) FILTER (WHERE t.ok) AS k {T} GROUP BY t.id",
    f"SELECT t.id, array_sort(collect_list(t.n)) AS ns, max_by(t.nome, t.n) AS b {T} GROUP BY t.id",
    f"SELECT t.id, listagg(t.nome, ',') WITHIN GROUP (ORDER BY t.nome) AS l {T} GROUP BY t.id",
    f"SELECT t.id, percentile_cont(0.5) WITHIN GROUP (ORDER BY t.n) AS p, percentile(t.n, 0.5) AS q {T} GROUP BY t.id",
    # windows in an order that is unique, or that does not matter
    f"SELECT t.id, row_number() OVER (PARTITION BY t.uf ORDER BY t.day, t.id) AS rn {T}",
    f"SELECT t.id, lag(t.n) OVER (PARTITION BY t.id ORDER BY t.day) AS b, rank() OVER (ORDER BY t.n) AS r {T}",
    f"SELECT t.id, last_value(t.n, true) OVER (PARTITION BY t.uf ORDER BY t.day, t.id) AS b {T}",
    f"SELECT t.id, first_value(t.n) IGNORE NULLS OVER (PARTITION BY t.uf ORDER BY id DESC NULLS LAST) AS b {T}",
    f"SELECT t.id, nth_value(t.n, 2) OVER w AS b, sum(t.n) OVER w AS s {T} WINDOW w AS (PARTITION BY t.uf "
    f"ORDER BY t.id)",
    f"SELECT t.id, first_value(t.day) OVER (PARTITION BY t.uf ORDER BY t.day) AS b {T}",
    f"SELECT t.id, sum(t.n) OVER (PARTITION BY t.uf ORDER BY t.day) AS s {T}",
    f"SELECT t.id, sum(n) OVER (PARTITION BY uf ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS s {T}",
    f"WITH d AS (SELECT uf, day, sum(n) AS n {T} GROUP BY uf, day) "
    "SELECT uf AS id, day, lag(n) OVER (PARTITION BY uf ORDER BY day) AS b FROM d",
    f"WITH d AS (SELECT DISTINCT uf, day {T}) SELECT uf AS id, day, lag(day) OVER (PARTITION BY uf ORDER BY "
    f"day) AS b FROM d",
    f"SELECT uf AS id, sum(n) AS n, row_number() OVER (ORDER BY sum(n) DESC, uf) AS pos {T} GROUP BY uf",
    f"SELECT id FROM (SELECT id, uf, row_number() OVER (PARTITION BY uf ORDER BY day, id) AS rn {T}) WHERE rn = 1",
    f"WITH r AS (SELECT uf, day, n, row_number() OVER (PARTITION BY uf ORDER BY day, id) AS rn {T}), "
    "f AS (SELECT uf, day, n FROM r WHERE rn = 1) SELECT uf AS id, lag(n) OVER (ORDER BY uf) AS b FROM f",
    f"SELECT t.id, row_number() OVER (PARTITION BY u.city ORDER BY t.day, u.id) AS rn {T} JOIN {U} ON t.id = u.t_id",
    f"SELECT DISTINCT uf AS id FROM (SELECT uf, row_number() OVER (PARTITION BY uf ORDER BY day) AS rn {T}) "
    f"WHERE rn = 1",
    f"SELECT id, row_number() OVER (ORDER BY id) AS rn FROM (SELECT id {T} UNION SELECT id FROM {U})",
    f"SELECT t.id {T} QUALIFY row_number() OVER (PARTITION BY t.uf ORDER BY t.id) = 1",
    f"SELECT t.id, row_number() OVER (PARTITION BY t.uf ORDER BY t.id, p) AS rn, tag {T} "
    "LATERAL VIEW posexplode(t.tags) e AS p, tag",
    f"SELECT t.id, t.n, row_number() OVER (PARTITION BY t.uf ORDER BY t.id, tag) AS rn {T} LATERAL VIEW "
    f"explode(t.tags) e AS tag",
    # set operations
    f"SELECT t.id, t.nome AS x {T} UNION ALL SELECT u.id, u.city FROM {U} ORDER BY x",
    f"SELECT id, NULL AS x {T} UNION ALL SELECT id, city FROM {U}",
    f"SELECT id FROM (SELECT id, uf {T} EXCEPT SELECT id, city FROM {U}) WHERE uf IS NOT NULL",
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 3) "
    "SELECT c.n AS id, t.uf FROM c JOIN bronze.t AS t ON t.id = c.n",
    # types and forms of Spark's grammar
    f"SELECT t.id, t.day + INTERVAL 1 DAY AS d, t.at - INTERVAL '1' HOUR AS a, datediff(t.day, u.day) AS n "
    f"{T} JOIN {U} ON true",
    f"SELECT t.id, CAST(t.n AS DECIMAL(18, 4)) AS d, t.n::string AS s, CAST(t.v AS INT), decimal(t.n) AS e {T}",
    f"SELECT t.id, extract(YEAR FROM t.day) AS y, position('a' IN t.nome) AS p, trim(BOTH 'x' FROM t.nome) AS x {T}",
    f"SELECT t.id, substring(nome FROM 2 FOR 3) AS s, overlay(nome PLACING 'x' FROM 1 FOR 2) AS o, "
    f"substr(nome, 2) AS z {T}",
    f"SELECT t.id, timestampadd(MONTH, 1, t.at) AS a, dateadd(DAY, 1, t.day) AS b, datediff(DAY, t.day, "
    f"t.day) AS c {T}",
    f"SELECT t.id, date_add(t.day, 1) AS a, timestampdiff(HOUR, t.at, t.at) AS c, date_diff(t.day, t.day) AS d {T}",
    f"SELECT t.id, mask(t.nome, upperChar => 'X') AS m, ceil(t.v) AS c, ceil(t.v, 1) AS e, round(t.v) AS r {T}",
    "SELECT t.id, CASE t.uf WHEN 'SP' THEN 1 ELSE 2 END AS c, if(t.ok, 1, 0) AS i, iff.x FROM bronze.t AS t "
    "JOIN (SELECT 1 AS x) AS iff ON true",
    f"SELECT t.id, CAST(NULL AS STRING) AS x, coalesce(NULL, t.nome) AS y, nvl(t.nome, '-') AS z, "
    f"nullif(t.n, 0) AS w {T}",
    f"SELECT t.id, date_trunc('MONTH', t.at) AS m, trunc(t.day, 'MM') AS tr, to_date(t.nome, 'yyyy') AS d {T}",
    f"SELECT t.id, to_json(t.s) AS j, from_json(t.nome, 'a INT').a AS a, get_json_object(nome, '$.a') AS g {T}",
    f"SELECT t.id, t.nome ILIKE ('a%') AS a, t.nome REGEXP ('a') AS b, t.nome LIKE ANY ('a', 'b') AS c {T}",
    f"SELECT t.id, to_json(struct(*)) AS j, hash(t.*) AS h, concat_ws(',', nome, uf) AS c {T}",
    f"SELECT t.id, transform(t.tags, (x, i) -> concat(x, i)) AS xs, array_sort(t.items, (l, r) -> l.qty - "
    f"r.qty) AS s {T}",
    f"SELECT t.id, c1.uf {T} JOIN (WITH c AS (SELECT id, uf {T}) SELECT * FROM c) AS c1 ON c1.id = t.id",
    f"(SELECT id, uf {T}) UNION ALL (SELECT id, city FROM {U}) ORDER BY uf",
    f"SELECT t.id {T} WHERE (t.id, t.nome) IN (SELECT u.id, u.city FROM {U}) AND t.uf IS DISTINCT FROM t.nome",
    f"SELECT t.id, CASE WHEN grouping(t.uf) = 1 THEN 'all' ELSE t.uf END AS uf, grouping_id() AS g {T} "
    f"GROUP BY CUBE (t.id, t.uf)",
    f"SELECT t.id, extract(DAY FROM (t.at - t.at)) AS d, CAST(t.at - t.at AS STRING) AS e {T}",
    f"SELECT t.id, max(t.n) AS m {T} GROUP BY t.id, (t.uf COLLATE UTF8_LCASE = 'sp')",
    f"SELECT id, j.a, j.b {T} LATERAL VIEW json_tuple(nome, 'a', 'b') j AS a, b",
    f"SELECT t.id, e.tag {T} LEFT JOIN LATERAL explode(t.tags) AS e(tag)",
    f"SELECT t.id, date_part('month', t.day) AS m, make_date(2024, 1, n) AS d, months_between(t.at, t.at) AS mb {T}",
    f"SELECT /*+ BROADCAST(u) */ t.id {T} JOIN {U} ON u.t_id = t.id",
    f"SELECT t.id, (t.nome COLLATE UTF8_LCASE = 'a') AS same {T} WHERE t.uf COLLATE UNICODE_CI = 'sp'",
    f"SELECT t.id, array(1, 2)[0] AS a, concat_ws(',', t.tags, nome) AS c, size(tags) AS z, sequence(1, n) AS q {T}",
    f"SELECT t.id, t.n BETWEEN 1 AND 2 AS b, t.nome LIKE 'a%' AS l, NOT t.ok AS no, t.nome RLIKE 'x' AS r, -n AS m {T}",
    f"SELECT * FROM (SELECT id, uf, n {T}) PIVOT (sum(n) FOR uf IN ('SP' AS sp, 'RJ' AS rj))",
    f"SELECT id, k, w FROM (SELECT id, n, id AS m {T}) UNPIVOT (w FOR k IN (n, m))",
    f"-- SELECT foo(x)\nSELECT t.id /* bar(y) */, 'baz(1, 2)' AS text {T}",
    f"SELECT t.id, try_cast(t.nome AS INT) AS x, try_divide(t.n, 0) AS y, width_bucket(n, 0, 10, 5) AS b {T}",
    f"SELECT id {T} CLUSTER BY uf",
    f"SELECT id, bool_or(ok) AS a, any(ok) AS b, every(ok) AS c, some(ok) AS d {T} GROUP BY id",
]

# What Spark refuses: the query, a part of the message, the part of the text to which the position points.
BAD = [
    (f"SELECT t.id, t.nmoe AS x {T}", 'did you mean "nome"?', "t.nmoe"),
    (f"SELECT t.id, nmoe AS x {T}", 'did you mean "nome"?', "nmoe"),
    (f"SELECT t.id,\n  upper(t.nmoe) AS x\n{T}", 'did you mean "nome"?', "t.nmoe"),
    (f"SELECT x.id {T}", "FROM has no x", "x.id"),
    ("SELECT bronze.t.id FROM bronze.t", "FROM has no bronze", "bronze.t.id"),
    (f"SELECT t.id {T} WHERE t.ufs = 'SP'", 'did you mean "uf"?', "t.ufs"),
    (f"SELECT t.id AS x, t.id {T} WHERE x > 1", "x", "x > 1"),
    (f"SELECT t.id {T} JOIN {U} ON u.tid = t.id", 'did you mean "t_id"?', "u.tid"),
    (f"SELECT t.id {T} JOIN {U} USING (nomes)", "USING", "nomes"),
    (f"SELECT t.id, nome {T} JOIN {U} ON u.t_id = t.id", "ambiguous", "nome"),
    (f"SELECT t.id, u.city {T} LEFT SEMI JOIN {U} ON u.t_id = t.id", "u.city", "u.city"),
    (f"SELECT t.id, count(*) AS c {T} GROUP BY t.id, t.ufx", 'did you mean "uf"?', "t.ufx"),
    (f"SELECT t.id, count(*) AS c {T} GROUP BY t.id HAVING cc > 1", "cc", "cc > 1"),
    (f"SELECT t.id {T} ORDER BY t.idd", 'did you mean "id"?', "t.idd"),
    (f"SELECT t.id, sum(n) OVER (PARTITION BY t.estado) AS s {T}", "t.estado", "t.estado"),
    (f"WITH c AS (SELECT t.id, t.uf AS estado {T}) SELECT c.id, c.uf FROM c", "c does not have", "c.uf"),
    (f"WITH c AS (SELECT t.id, t.ufx {T}) SELECT c.id FROM c", 'did you mean "uf"?', "t.ufx"),
    ("WITH c(id, x) AS (SELECT id, uf FROM bronze.t) SELECT id, uf FROM c", "uf", "uf FROM c"),
    (f"SELECT q.id, q.y FROM (SELECT t.id, t.uf AS x {T}) AS q", "q does not have", "q.y"),
    (f"SELECT t.id {T} WHERE EXISTS (SELECT 1 FROM {U} WHERE u.t_id = t.idx)", "t.idx", "t.idx"),
    (f"SELECT t.id {T} WHERE t.id IN (SELECT u.x FROM {U})", "u.x", "u.x"),
    (f"SELECT id {T} JOIN (SELECT u.t_id FROM {U} WHERE u.id = t.n) AS q ON q.t_id = t.id", "t.n", "t.n"),
    (f"SELECT t.id, tagg {T} LATERAL VIEW explode(t.tags) AS tag", 'did you mean "tag"?', "tagg"),
    (f"SELECT t.id, tag {T} LATERAL VIEW explode(t.tgs) AS tag", 'did you mean "tags"?', "t.tgs"),
    (f"SELECT t.id, transform(t.tags, x -> y) AS ys {T}", "y", "y)"),
    (f"SELECT * EXCEPT (nmoe) {T}", "nmoe", "nmoe"),
    # a column of the subquery has precedence over the alias of the outer query
    (
        f"SELECT city.id FROM bronze.t AS city WHERE EXISTS (SELECT 1 FROM {U} WHERE u.t_id = city.id)",
        "city.id, but it is STRING",
        "city.id",
    ),
    # structs
    (f"SELECT t.id, t.nome.x AS x {T}", "has no field x", "t.nome.x"),
    (f"SELECT t.id, t.s.ff AS x {T}", "has no field ff: it has f, g", "t.s.ff"),
    (f"SELECT t.id, t.s.g.h.i AS x {T}", "has no field i", "t.s.g.h.i"),
    (f"SELECT t.id, t.items.price AS x {T}", "has no field price", "t.items.price"),
    (f"SELECT t.id, MAX(struct(t.at, t.nome)).nmoe AS x {T} GROUP BY t.id", "has no field nmoe", "MAX"),
    (f"SELECT t.id, e.item.price {T} LATERAL VIEW explode(items) e AS item", "has no field price", "e.item.price"),
    # functions
    (f"SELECT t.id, uper(t.nome) AS x {T}", 'did you mean "upper"?', "uper"),
    (f"SELECT t.id, strpos(t.nome, 'a') AS x {T}", "no function of Spark", "strpos"),
    (f"SELECT t.id, date_trunc(t.at) AS x {T}", "with 1 argument", "date_trunc"),
    (f"SELECT t.id, upper(t.nome, 'x') AS x {T}", "with 2 arguments", "upper"),
    (f"SELECT t.id, add_months(t.day, 1, 2) AS x {T}", "with 3 arguments", "add_months"),
    (f"SELECT t.id, map_keys(map('b')) AS x {T}", "0, 2, 4, ... arguments", "map("),
    (f"SELECT t.id, substring(t.nome) AS x {T}", "2 or 3 arguments", "substring"),
    (f"SELECT t.id, coalesce() AS x {T}", "at least 1 argument", "coalesce"),
    (f"SELECT t.id, datediff(t.day) AS x {T}", "with 1 argument", "datediff"),
    (f"SELECT t.id, upper(lower()) AS x {T}", "calls lower with no arguments", "lower"),
    # groups
    (f"SELECT upper(t.nome) AS id, count(*) AS c {T} GROUP BY id", "not in GROUP BY", "t.nome"),
    (f"SELECT t.id, count(*) AS c {T}", "without GROUP BY", "t.id"),
    (f"SELECT t.id, t.uf, count(*) AS c {T} GROUP BY t.id", "not in GROUP BY", "t.uf"),
    (f"SELECT t.id, upper(t.uf) AS u, count(*) AS c {T} GROUP BY t.id", "not in GROUP BY", "t.uf"),
    (f"SELECT t.id, t.uf, count(*) AS c {T} GROUP BY t.id, upper(t.uf)", "not in GROUP BY", "t.uf"),
    (f"SELECT t.id, sum(t.n) OVER (PARTITION BY t.uf) AS s {T} GROUP BY t.id", "not in GROUP BY", "t.n"),
    (f"SELECT t.id, count(*) AS c {T} GROUP BY 3", "groups by 3", "3"),
    # set operations
    (f"SELECT t.id, t.uf {T} UNION ALL SELECT u.id FROM {U}", "2 and 1 columns", "u.id"),
    (f"SELECT id {T} EXCEPT SELECT id, t_id FROM {U}", "1 and 2 columns", "id, t_id"),
    (f"SELECT t.id, t.nome AS x {T} UNION ALL SELECT u.id, u.city FROM {U} ORDER BY y", "y", "y"),
]

# The type TIME is off in Spark by default, and cannot be stored where it is on.
TIME = [
    (f"SELECT t.id, to_time(t.nome) AS i {T}", "i, which is TIME", "to_time"),
    (f"SELECT t.id, CAST(t.nome AS TIME) AS i {T}", "i, which is TIME", "t.nome"),
]

# What Spark accepts, and a table cannot have or cannot be kept equal to.
REFUSED = [
    (f"SELECT t.id, map('b', t.n) AS m {T}", "m, which is MAP", "map"),
    (f"SELECT t.id, array(map('b', t.n)) AS m {T}", "contains MAP", "array"),
    (f"SELECT t.id, struct(map('b', t.n) AS x) AS m {T}", "contains MAP", ""),
    (f"SELECT t.id, str_to_map(t.nome) AS m {T}", "MAP", ""),
    (f"SELECT t.id, parse_json(t.nome) AS j {T}", "VARIANT", ""),
    (f"SELECT t.id, CAST(t.nome AS VARIANT) AS j {T}", "VARIANT", ""),
    (f"SELECT t.id, t.at - t.at AS i {T}", "INTERVAL", ""),
    (f"SELECT t.id, t.day - date_sub(t.day, 1) AS i {T}", "INTERVAL", ""),
    (f"SELECT t.id, INTERVAL 1 DAY AS i {T}", "INTERVAL", ""),
    (f"SELECT t.id, make_interval(1) AS i {T}", "INTERVAL", ""),
    (f"SELECT t.id, NULL AS x {T}", "CAST(NULL AS STRING)", ""),
    (f"SELECT t.id, CASE WHEN t.ok THEN NULL END AS x {T}", "NULL", ""),
    (f"WITH c AS (SELECT t.id AS id, map('b', t.n) AS m {T}) SELECT c.id, c.m FROM c", "m, which is MAP", "c.m"),
    (f"SELECT t.id, t.n AS x, t.uf AS X {T}", "two columns of the name X", "t.uf AS X"),
    (f"SELECT t.id, u.id {T} JOIN {U} ON u.t_id = t.id", "two columns of the name id", "u.id"),
    (f"SELECT * {T} JOIN {U} ON u.t_id = t.id", "two columns of the name id", ""),
    (f"SELECT t.id, t.n AS `a b` {T}", "AS a_b", ""),
    (f"SELECT t.id, t.n AS `a.b` {T}", "AS a_b", ""),
    (f"SELECT t.id, t.n AS `a``b` {T}", "AS a_b", ""),
    (f"SELECT t.id, t.n AS `a,b` {T}", "','", ""),
    (f"SELECT t.id, t.n AS `a(b)` {T}", "AS a_b_", ""),
    (f"SELECT t.id, t.n AS `a=b` {T}", "'='", ""),
    (f"SELECT t.id, count(*) {T} GROUP BY t.id", "without a name", "count"),
    (f"SELECT t.id, t.n + 1 {T}", "without a name", "t.n + 1"),
    (f"SELECT t.id, t.n AS _change_type {T}", "change feed", ""),
    (f"SELECT t.id, t.uf COLLATE UTF8_LCASE AS c {T}", "write lower(t.uf)", ""),
    (f"SELECT t.uf COLLATE UTF8_LCASE AS id, COUNT(*) AS n {T} GROUP BY 1", "lower(t.uf)", ""),
    (f"SELECT MAX(t.id) AS id {T} GROUP BY t.uf COLLATE UNICODE_CI", "lower(t.uf)", ""),
]

# Windows in an order that leaves ties: Spark accepts them, and gives other rows from run to run.
TIES = [
    (
        f"SELECT t.id, p, row_number() OVER (PARTITION BY t.uf ORDER BY t.id, tag) AS rn {T} "
        "LATERAL VIEW posexplode(t.tags) e AS p, tag",
        "add e.p to",
        "",
    ),
    (
        f"SELECT t.id, row_number() OVER (PARTITION BY t.uf ORDER BY t.at DESC) AS rn {T}",
        "add t.id to its ORDER BY",
        "row_number",
    ),
    (f"SELECT t.id, lag(t.n) OVER (PARTITION BY t.uf ORDER BY t.at) AS b {T}", "add t.id to", "lag"),
    (f"SELECT t.id, ntile(4) OVER (ORDER BY t.n) AS b {T}", "add t.id to", "ntile"),
    (f"SELECT t.id, first_value(t.n) OVER (PARTITION BY t.uf ORDER BY t.at) AS b {T}", "add t.id to", "first_value"),
    (
        f"SELECT t.id, last_value(t.n, true) OVER (PARTITION BY t.uf ORDER BY t.at) AS b {T}",
        "add t.id to",
        "last_value",
    ),
    (f"SELECT t.id, row_number() OVER w AS b {T} WINDOW w AS (PARTITION BY t.uf ORDER BY t.at)", "add t.id to", ""),
    (f"SELECT t.id, sum(t.n) OVER (ORDER BY t.at ROWS 2 PRECEDING) AS b {T}", "add t.id to", "sum"),
    (
        f"SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY uf ORDER BY at DESC) AS rn {T}) WHERE rn = 1",
        "add t.id to",
        "",
    ),
    (f"SELECT uf AS id, row_number() OVER (ORDER BY sum(n) DESC) AS pos {T} GROUP BY uf", "add uf to", ""),
    (
        f"SELECT u.id, t.nome, row_number() OVER (PARTITION BY u.city ORDER BY u.id) AS rn FROM {U} JOIN "
        f"bronze.t AS t ON t.n = u.t_id",
        "add t.id to",
        "",
    ),
    (
        f"SELECT id, row_number() OVER (ORDER BY id) AS rn, x FROM (SELECT id, nome AS x {T} UNION ALL "
        f"SELECT id, city FROM {U})",
        "columns that identify a row",
        "",
    ),
]
