-- One row per day that has a transaction and client seen in the 28 days that end on it: how often the client came and
-- what it earned in them, each in three bands. What was spent (negative points) does not count.
WITH dias AS (
    SELECT DISTINCT t.dt_transacao AS dia
    FROM silver.transacoes AS t
),
-- Each day with those of its window: what happened on them is then found by equality, which joins fast. The range says
-- the same again where the days are joined to, so that what is known of a window is known of the days in it.
janelas AS (
    SELECT d.dia AS dt_referencia, j.dia AS dia
    FROM dias AS d
    JOIN dias AS j ON j.dia BETWEEN date_sub(d.dia, 27) AND d.dia
)
SELECT
    j.dt_referencia AS dt_referencia,
    t.id_cliente AS id_cliente,
    COUNT(DISTINCT t.dt_transacao) AS dias_ativos,
    SUM(GREATEST(t.qtde_pontos, 0)) AS pontos_positivos,
    CASE
        WHEN COUNT(DISTINCT t.dt_transacao) < 5 THEN 'BAIXA'
        WHEN COUNT(DISTINCT t.dt_transacao) <= 10 THEN 'MEDIA'
        ELSE 'ALTA'
    END AS frequencia,
    CASE
        WHEN SUM(GREATEST(t.qtde_pontos, 0)) >= 1500 THEN 'ALTO'
        WHEN SUM(GREATEST(t.qtde_pontos, 0)) >= 750 THEN 'MEDIO'
        ELSE 'BAIXO'
    END AS valor
FROM janelas AS j
JOIN silver.transacoes AS t
    ON t.dt_transacao = j.dia AND t.dt_transacao BETWEEN date_sub(j.dt_referencia, 27) AND j.dt_referencia
WHERE t.id_cliente IS NOT NULL
GROUP BY j.dt_referencia, t.id_cliente
