-- One row per quote day, bond family and maturity bucket (years from the quote day, its lower bound included): the curve.
-- Rates of other kinds (`natureza_taxa`) stand in other families and are in no mean with these.
WITH prazos AS (
    SELECT
        s.data_base AS data_base,
        s.tipo_titulo AS tipo_titulo,
        CASE
            WHEN s.data_vencimento < add_months(s.data_base, 12) THEN '00-01'
            WHEN s.data_vencimento < add_months(s.data_base, 36) THEN '01-03'
            WHEN s.data_vencimento < add_months(s.data_base, 60) THEN '03-05'
            WHEN s.data_vencimento < add_months(s.data_base, 120) THEN '05-10'
            ELSE '10-99'
        END AS faixa_prazo,
        s.natureza_taxa AS natureza_taxa,
        s.data_vencimento AS data_vencimento,
        s.taxa_compra_manha AS taxa_compra_manha,
        s.taxa_venda_manha AS taxa_venda_manha
    FROM silver.precos_silver AS s
)
SELECT
    p.data_base AS data_base,
    p.tipo_titulo AS tipo_titulo,
    p.faixa_prazo AS faixa_prazo,
    MAX(p.natureza_taxa) AS natureza_taxa, -- it follows from the label
    COUNT(*) AS qtde_titulos,
    MIN(p.data_vencimento) AS primeiro_vencimento,
    MAX(p.data_vencimento) AS ultimo_vencimento,
    MIN(p.taxa_compra_manha) AS taxa_compra_minima,
    AVG(p.taxa_compra_manha) AS taxa_compra_media,
    MAX(p.taxa_compra_manha) AS taxa_compra_maxima,
    AVG(p.taxa_venda_manha) AS taxa_venda_media
FROM prazos AS p
GROUP BY p.data_base, p.tipo_titulo, p.faixa_prazo
