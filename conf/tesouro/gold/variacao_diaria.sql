-- One row per bond and quote day: how price and rate moved since the bond's quote day before it,
-- which may lie days back. NULL on the first one.
WITH seguidas AS (
    SELECT
        s.tipo_titulo AS tipo_titulo,
        s.data_vencimento AS data_vencimento,
        s.data_base AS data_base,
        s.natureza_taxa AS natureza_taxa,
        s.pu_base_manha AS pu_base_manha,
        s.taxa_compra_manha AS taxa_compra_manha,
        LAG(s.data_base) OVER (PARTITION BY s.tipo_titulo, s.data_vencimento ORDER BY s.data_base)
            AS data_base_anterior,
        LAG(s.pu_base_manha) OVER (PARTITION BY s.tipo_titulo, s.data_vencimento ORDER BY s.data_base)
            AS pu_base_anterior,
        LAG(s.taxa_compra_manha) OVER (PARTITION BY s.tipo_titulo, s.data_vencimento ORDER BY s.data_base)
            AS taxa_compra_anterior
    FROM silver.precos_silver AS s
)
SELECT
    v.tipo_titulo AS tipo_titulo,
    v.data_vencimento AS data_vencimento,
    v.data_base AS data_base,
    v.natureza_taxa AS natureza_taxa,
    v.data_base_anterior AS data_base_anterior,
    v.pu_base_manha AS pu_base_manha,
    v.pu_base_manha - v.pu_base_anterior AS variacao_pu_base,
    CAST(
        100 * (v.pu_base_manha - v.pu_base_anterior) / v.pu_base_anterior AS DECIMAL(18, 6)
    ) AS variacao_pu_base_percentual,
    v.taxa_compra_manha AS taxa_compra_manha,
    100 * (v.taxa_compra_manha - v.taxa_compra_anterior) AS variacao_taxa_pontos_base
FROM seguidas AS v
