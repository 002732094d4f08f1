-- The report of resumo_diario over the 28 days that end on each day that has a transaction: per day and product
-- (grouping_id 0), and per day (1); and how many transactions a client made.
WITH linhas AS (
    SELECT
        t.dt_transacao AS dt_transacao,
        t.id_transacao AS id_transacao,
        t.id_cliente AS id_cliente,
        l.id_produto AS id_produto,
        CASE
            WHEN l.id_transacao_produto IS NULL THEN t.qtde_pontos
            ELSE l.qtde_produto * l.vl_produto
        END AS pontos_linha,
        -- On the first line only, so that a sum over lines counts a transaction once. The day stands in PARTITION BY
        -- so that only the days touched have to be read again.
        CASE
            WHEN ROW_NUMBER() OVER (PARTITION BY t.dt_transacao, t.id_transacao ORDER BY l.id_transacao_produto) = 1
            THEN t.qtde_pontos
        END AS pontos_transacao
    FROM silver.transacoes AS t
    LEFT JOIN silver.transacao_produto AS l ON l.id_transacao = t.id_transacao
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
    JOIN dias AS j ON j.dia BETWEEN date_sub(d.dia, 27) AND d.dia
)
SELECT
    j.dt_referencia AS dt_referencia,
    l.id_produto AS id_produto,
    GROUPING_ID() AS grouping_id,
    CASE WHEN GROUPING(l.id_produto) = 0 THEN MAX(COALESCE(p.desc_produto, l.id_produto)) END AS produto,
    COUNT(DISTINCT l.id_transacao) AS transacoes,
    COUNT(DISTINCT l.id_cliente) AS clientes,
    CASE
        WHEN GROUPING(l.id_produto) = 1 THEN SUM(l.pontos_transacao)
        ELSE SUM(l.pontos_linha)
    END AS pontos,
    CASE
        WHEN GROUPING(l.id_produto) = 1 THEN SUM(GREATEST(l.pontos_transacao, 0))
        ELSE SUM(GREATEST(l.pontos_linha, 0))
    END AS pontos_positivos,
    CASE
        WHEN GROUPING(l.id_produto) = 1 THEN SUM(LEAST(l.pontos_transacao, 0))
        ELSE SUM(LEAST(l.pontos_linha, 0))
    END AS pontos_negativos,
    -- Divided as decimals: the same digits on every machine. NULL where no client is named.
    CAST(
        CAST(COUNT(DISTINCT l.id_transacao) AS DECIMAL(18, 0)) / NULLIF(COUNT(DISTINCT l.id_cliente), 0)
        AS DECIMAL(18, 6)
    ) AS transacoes_por_cliente
FROM janelas AS j
JOIN linhas AS l
    ON l.dt_transacao = j.dia AND l.dt_transacao BETWEEN date_sub(j.dt_referencia, 27) AND j.dt_referencia
LEFT JOIN silver.produtos AS p ON p.id_produto = l.id_produto
GROUP BY GROUPING SETS ((j.dt_referencia, l.id_produto), (j.dt_referencia))
