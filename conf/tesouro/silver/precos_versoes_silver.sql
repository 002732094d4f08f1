-- One row per bond, quote day and version of the quote, with the time for which it stood: NULL where it still does.
-- Rates are in percent a year; `natureza_taxa` says of what: nominal, real (over inflation) or spread (over Selic).
WITH lidas AS (
    SELECT
        regexp_replace(trim(p.tipo_titulo), '\\s+', ' ') AS tipo_titulo,
        p.data_vencimento AS data_vencimento,
        p.data_base AS data_base,
        p.__START_AT AS publicada_em,
        -- Of two spellings published at once the one that stands, or stood longest.
        struct(
            p.__END_AT IS NULL AS vigente,
            p.__END_AT AS substituida_em,
            -- A bond that is not on sale has a price of zero: it has none. A rate of zero is one, unless its price is.
            CASE WHEN p.taxa_compra_manha <> 0 OR p.pu_compra_manha <> 0 THEN p.taxa_compra_manha END
                AS taxa_compra_manha,
            CASE WHEN p.taxa_venda_manha <> 0 OR p.pu_venda_manha <> 0 THEN p.taxa_venda_manha END AS taxa_venda_manha,
            NULLIF(p.pu_compra_manha, 0) AS pu_compra_manha,
            NULLIF(p.pu_venda_manha, 0) AS pu_venda_manha,
            NULLIF(p.pu_base_manha, 0) AS pu_base_manha
        ) AS cotacao
    FROM bronze.precotaxatesourodireto AS p
)
SELECT
    l.tipo_titulo AS tipo_titulo,
    l.data_vencimento AS data_vencimento,
    l.data_base AS data_base,
    l.publicada_em AS publicada_em,
    MAX(l.cotacao).substituida_em AS substituida_em,
    CASE
        WHEN l.tipo_titulo RLIKE '(?i)selic' THEN 'spread'
        WHEN l.tipo_titulo RLIKE '(?i)prefixado' THEN 'nominal'
        WHEN l.tipo_titulo RLIKE '(?i)ipca|igpm|renda|educa' THEN 'real'
    END AS natureza_taxa,
    MAX(l.cotacao).taxa_compra_manha AS taxa_compra_manha,
    MAX(l.cotacao).taxa_venda_manha AS taxa_venda_manha,
    MAX(l.cotacao).pu_compra_manha AS pu_compra_manha,
    MAX(l.cotacao).pu_venda_manha AS pu_venda_manha,
    MAX(l.cotacao).pu_base_manha AS pu_base_manha
FROM lidas AS l
GROUP BY l.tipo_titulo, l.data_vencimento, l.data_base, l.publicada_em
