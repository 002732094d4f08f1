-- One row per quote day and bond family: what separates the price at which the treasury sells (compra, to the investor)
-- from the one at which it buys back (venda). Only bonds that have both are in it.
SELECT
    s.data_base AS data_base,
    s.tipo_titulo AS tipo_titulo,
    MAX(s.natureza_taxa) AS natureza_taxa, -- it follows from the label
    COUNT(*) AS qtde_titulos,
    AVG(100 * (s.taxa_venda_manha - s.taxa_compra_manha)) AS spread_taxa_pontos_base_media,
    MAX(100 * (s.taxa_venda_manha - s.taxa_compra_manha)) AS spread_taxa_pontos_base_maximo,
    AVG(s.pu_compra_manha - s.pu_venda_manha) AS spread_pu_media,
    MAX(s.pu_compra_manha - s.pu_venda_manha) AS spread_pu_maximo,
    CAST(
        AVG(CAST(100 * (s.pu_compra_manha - s.pu_venda_manha) / s.pu_compra_manha AS DECIMAL(18, 10)))
        AS DECIMAL(18, 6)
    ) AS spread_pu_percentual_media
FROM silver.precos_silver AS s
WHERE s.pu_compra_manha IS NOT NULL AND s.pu_venda_manha IS NOT NULL
GROUP BY s.data_base, s.tipo_titulo
