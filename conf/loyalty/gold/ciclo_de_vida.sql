-- One row per day that has a transaction and client seen on it or before: where the client is in its life.
--
--   CURIOSO        the first transaction is at most 7 days ago; else, by the last one:
--   FIEL           at most 7 days ago, and at most 14 after the active day before it
--   RECONQUISTADO  at most 7 days ago, 15 to 27 after the one before
--   REBORN         at most 7 days ago, 28 or more after the one before
--   TURISTA        8 to 14 days ago
--   DESENCANTADA   15 to 28 days ago
--   ZUMBI          more than 28 days ago
WITH atividade AS (
    SELECT DISTINCT t.id_cliente AS id_cliente, t.dt_transacao AS dt_transacao
    FROM silver.transacoes AS t
    WHERE t.id_cliente IS NOT NULL AND t.dt_transacao IS NOT NULL
),
dias AS (
    SELECT DISTINCT t.dt_transacao AS dt_referencia
    FROM silver.transacoes AS t
),
-- One row per client and active day: it is the client's last one until the day before the next.
trechos AS (
    SELECT
        a.id_cliente AS id_cliente,
        a.dt_transacao AS ultima,
        MIN(a.dt_transacao) OVER (PARTITION BY a.id_cliente) AS primeira,
        LAG(a.dt_transacao) OVER (PARTITION BY a.id_cliente ORDER BY a.dt_transacao) AS penultima,
        LEAD(a.dt_transacao) OVER (PARTITION BY a.id_cliente ORDER BY a.dt_transacao) AS seguinte
    FROM atividade AS a
)
SELECT
    d.dt_referencia AS dt_referencia,
    t.id_cliente AS id_cliente,
    datediff(d.dt_referencia, t.primeira) AS dias_desde_a_primeira,
    datediff(d.dt_referencia, t.ultima) AS dias_desde_a_ultima,
    datediff(t.ultima, t.penultima) AS dias_entre_as_ultimas,
    CASE
        WHEN datediff(d.dt_referencia, t.primeira) <= 7 THEN 'CURIOSO'
        WHEN datediff(d.dt_referencia, t.ultima) > 28 THEN 'ZUMBI'
        WHEN datediff(d.dt_referencia, t.ultima) > 14 THEN 'DESENCANTADA'
        WHEN datediff(d.dt_referencia, t.ultima) > 7 THEN 'TURISTA'
        WHEN datediff(t.ultima, t.penultima) <= 14 THEN 'FIEL'
        WHEN datediff(t.ultima, t.penultima) < 28 THEN 'RECONQUISTADO'
        ELSE 'REBORN'
    END AS ciclo
FROM dias AS d
JOIN trechos AS t
    ON t.ultima <= d.dt_referencia AND (t.seguinte IS NULL OR t.seguinte > d.dt_referencia)
