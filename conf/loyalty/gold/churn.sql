-- One row per day that has a transaction: the clients active 55 to 28 days before it (base), those of them
-- not seen in the 28 days that end on it (perdidos), and their share (taxa_churn, NULL where base is 0).
WITH atividade AS (
    SELECT DISTINCT t.id_cliente AS id_cliente, t.dt_transacao AS dt_transacao
    FROM silver.transacoes AS t
),
dias AS (
    SELECT DISTINCT t.dt_transacao AS dia
    FROM silver.transacoes AS t
),
-- Each day with those of its window: what happened on them is then found by equality, which joins fast. The range says
-- the same again where the days are joined to, so that what is known of a window is known of the days in it.
janelas AS (
    SELECT d.dia AS dt_referencia, j.dia AS dia
    FROM dias AS d
    JOIN dias AS j ON j.dia BETWEEN date_sub(d.dia, 55) AND d.dia
),
-- One row per day and client seen in the 56 days that end on it; a NULL client keeps the day, uncounted.
situacao AS (
    SELECT
        j.dt_referencia AS dt_referencia,
        a.id_cliente AS id_cliente,
        CASE WHEN MIN(a.dt_transacao) <= date_sub(j.dt_referencia, 28) THEN a.id_cliente END AS da_base,
        CASE WHEN MAX(a.dt_transacao) <= date_sub(j.dt_referencia, 28) THEN a.id_cliente END AS perdido
    FROM janelas AS j
    JOIN atividade AS a
        ON a.dt_transacao = j.dia AND a.dt_transacao BETWEEN date_sub(j.dt_referencia, 55) AND j.dt_referencia
    GROUP BY j.dt_referencia, a.id_cliente
)
SELECT
    s.dt_referencia AS dt_referencia,
    COUNT(s.da_base) AS base,
    COUNT(s.perdido) AS perdidos,
    -- Divided as decimals: the same digits on every machine.
    CAST(
        CAST(COUNT(s.perdido) AS DECIMAL(18, 0)) / NULLIF(COUNT(s.da_base), 0)
        AS DECIMAL(9, 6)
    ) AS taxa_churn
FROM situacao AS s
GROUP BY s.dt_referencia
