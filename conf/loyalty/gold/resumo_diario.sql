-- One row per day and product (grouping_id 0), per day (1), and one for everything (3).
-- A product's points are those of its lines; a day's and the total's are those of the transactions, each
-- counted once, whatever its lines add up to. A transaction without lines is under id_produto NULL with its
-- own points; a line without its transaction has no day and is left out.
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
)
SELECT
    l.dt_transacao AS dt_transacao,
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
    END AS pontos_negativos
FROM linhas AS l
LEFT JOIN silver.produtos AS p ON p.id_produto = l.id_produto
GROUP BY GROUPING SETS ((l.dt_transacao, l.id_produto), (l.dt_transacao), ())
