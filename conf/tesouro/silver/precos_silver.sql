-- One row per bond and quote day: the quote as it stands, of several spellings the one published last.
WITH vigentes AS (
    SELECT
        v.tipo_titulo AS tipo_titulo,
        v.data_vencimento AS data_vencimento,
        v.data_base AS data_base,
        v.natureza_taxa AS natureza_taxa,
        struct(
            v.publicada_em AS publicada_em,
            v.taxa_compra_manha AS taxa_compra_manha,
            v.taxa_venda_manha AS taxa_venda_manha,
            v.pu_compra_manha AS pu_compra_manha,
            v.pu_venda_manha AS pu_venda_manha,
            v.pu_base_manha AS pu_base_manha
        ) AS cotacao
    FROM silver.precos_versoes_silver AS v
    WHERE v.substituida_em IS NULL
)
SELECT
    v.tipo_titulo AS tipo_titulo,
    v.data_vencimento AS data_vencimento,
    v.data_base AS data_base,
    MAX(v.natureza_taxa) AS natureza_taxa, -- it follows from the label
    MAX(v.cotacao).taxa_compra_manha AS taxa_compra_manha,
    MAX(v.cotacao).taxa_venda_manha AS taxa_venda_manha,
    MAX(v.cotacao).pu_compra_manha AS pu_compra_manha,
    MAX(v.cotacao).pu_venda_manha AS pu_venda_manha,
    MAX(v.cotacao).pu_base_manha AS pu_base_manha,
    MAX(v.cotacao).publicada_em AS publicada_em
FROM vigentes AS v
GROUP BY v.tipo_titulo, v.data_vencimento, v.data_base
