-- One row per quote day and type: the means of what was quoted. What was not on sale counts as a record and in no mean.
-- Means are as exact as Spark makes them of DECIMAL: four digits more than the values have, the last one rounded.
SELECT
    s.data_base AS data_base,
    s.tipo AS tipo,
    COUNT(*) AS qtde_registros,
    AVG(s.compra_manha) AS compra_manha_media,
    AVG(s.venda_manha) AS venda_manha_media,
    AVG(s.pu_compra_manha) AS pu_compra_manha_media,
    AVG(s.pu_venda_manha) AS pu_venda_manha_media,
    AVG(s.pu_base_manha) AS pu_base_manha_media,
    -- The mean of each bond's own; a rate of zero has no percentage.
    CAST(
        AVG(100 * (s.venda_manha - s.compra_manha) / NULLIF(s.compra_manha, 0))
        AS DECIMAL(18, 6)
    ) AS percentual_diferenca_compra_venda
FROM silver.dadostesouroipca_silver AS s
GROUP BY s.data_base, s.tipo
