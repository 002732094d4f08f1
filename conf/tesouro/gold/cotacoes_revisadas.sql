-- One row per quote that was published and then changed (REVISADA) or taken back (RETIRADA): what it said from
-- `publicada_em` to `substituida_em`, and what the quote that took its place says.
WITH seguidas AS (
    SELECT
        v.tipo_titulo AS tipo_titulo,
        v.data_vencimento AS data_vencimento,
        v.data_base AS data_base,
        v.publicada_em AS publicada_em,
        v.substituida_em AS substituida_em,
        v.natureza_taxa AS natureza_taxa,
        v.taxa_compra_manha AS taxa_compra_manha,
        v.taxa_venda_manha AS taxa_venda_manha,
        v.pu_compra_manha AS pu_compra_manha,
        v.pu_venda_manha AS pu_venda_manha,
        v.pu_base_manha AS pu_base_manha,
        LEAD(struct(
            v.publicada_em AS publicada_em,
            v.taxa_compra_manha AS taxa_compra_manha,
            v.taxa_venda_manha AS taxa_venda_manha,
            v.pu_compra_manha AS pu_compra_manha,
            v.pu_venda_manha AS pu_venda_manha,
            v.pu_base_manha AS pu_base_manha
        )) OVER (PARTITION BY v.tipo_titulo, v.data_vencimento, v.data_base ORDER BY v.publicada_em) AS seguinte
    FROM silver.precos_versoes_silver AS v
)
SELECT
    s.tipo_titulo AS tipo_titulo,
    s.data_vencimento AS data_vencimento,
    s.data_base AS data_base,
    s.publicada_em AS publicada_em,
    s.substituida_em AS substituida_em,
    -- A quote may also come back after it was taken back: then what follows begins later than this one ends.
    CASE WHEN s.seguinte.publicada_em = s.substituida_em THEN 'REVISADA' ELSE 'RETIRADA' END AS situacao,
    s.natureza_taxa AS natureza_taxa,
    s.taxa_compra_manha AS taxa_compra_manha,
    CASE WHEN s.seguinte.publicada_em = s.substituida_em THEN s.seguinte.taxa_compra_manha END AS taxa_compra_revisada,
    s.taxa_venda_manha AS taxa_venda_manha,
    CASE WHEN s.seguinte.publicada_em = s.substituida_em THEN s.seguinte.taxa_venda_manha END AS taxa_venda_revisada,
    s.pu_compra_manha AS pu_compra_manha,
    CASE WHEN s.seguinte.publicada_em = s.substituida_em THEN s.seguinte.pu_compra_manha END AS pu_compra_revisado,
    s.pu_venda_manha AS pu_venda_manha,
    CASE WHEN s.seguinte.publicada_em = s.substituida_em THEN s.seguinte.pu_venda_manha END AS pu_venda_revisado,
    s.pu_base_manha AS pu_base_manha,
    CASE WHEN s.seguinte.publicada_em = s.substituida_em THEN s.seguinte.pu_base_manha END AS pu_base_revisado
FROM seguidas AS s
WHERE s.substituida_em IS NOT NULL
