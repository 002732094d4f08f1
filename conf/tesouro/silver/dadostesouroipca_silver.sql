-- One row per bond and quote day, under one label: of several spellings the row that has all its measures, then the one
-- written last. Rates are in percent a year, over the inflation of IPCA.
WITH lidas AS (
    SELECT
        CASE
            WHEN upper(d.Tipo) RLIKE '^\\s*(TESOURO\\s+)?IPCA\\+?\\s*$' THEN 'IPCA'
            ELSE upper(trim(d.Tipo))
        END AS tipo,
        d.Data_Vencimento AS data_vencimento,
        d.Data_Base AS data_base,
        -- Compared from its first field on, so that no two rows of different content are left tied.
        struct(
            d.CompraManha IS NOT NULL AND d.VendaManha IS NOT NULL AND d.PUCompraManha IS NOT NULL
                AND d.PUVendaManha IS NOT NULL AND d.PUBaseManha IS NOT NULL AS completa,
            d.dt_update AS dt_update,
            -- A bond that is not on sale has a price of zero: it has none. A rate of zero is one, unless its price is.
            CASE WHEN d.CompraManha <> 0 OR d.PUCompraManha <> 0 THEN d.CompraManha END AS compra_manha,
            CASE WHEN d.VendaManha <> 0 OR d.PUVendaManha <> 0 THEN d.VendaManha END AS venda_manha,
            NULLIF(d.PUCompraManha, 0) AS pu_compra_manha,
            NULLIF(d.PUVendaManha, 0) AS pu_venda_manha,
            NULLIF(d.PUBaseManha, 0) AS pu_base_manha
        ) AS cotacao
    FROM bronze.dadostesouroipca AS d
)
SELECT
    l.tipo AS tipo,
    l.data_vencimento AS data_vencimento,
    l.data_base AS data_base,
    'real' AS natureza_taxa,
    MAX(l.cotacao).compra_manha AS compra_manha,
    MAX(l.cotacao).venda_manha AS venda_manha,
    MAX(l.cotacao).pu_compra_manha AS pu_compra_manha,
    MAX(l.cotacao).pu_venda_manha AS pu_venda_manha,
    MAX(l.cotacao).pu_base_manha AS pu_base_manha,
    MAX(l.cotacao).dt_update AS dt_update
FROM lidas AS l
GROUP BY l.tipo, l.data_vencimento, l.data_base
