-- One row per day that has a transaction and client seen in the 28 days that end on it: how often the client came and
-- what it earned in them, each in three bands. What was spent (negative points) does not count.
WITH dias AS (
    SELECT DISTINCT t.dt_transacao AS dt_referencia
    FROM silver.transacoes AS t
)
SELECT
    d.dt_referencia AS dt_referencia,
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
FROM dias AS d
JOIN silver.transacoes AS t ON t.dt_transacao BETWEEN date_sub(d.dt_referencia, 27) AND d.dt_referencia
WHERE t.id_cliente IS NOT NULL
GROUP BY d.dt_referencia, t.id_cliente
